"""Videos grouped by their features alone: nearest neighbours, clusters, and how tight these are beside a control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

CLUSTERS, MEMBERS = 8, 4  # at most
SHUFFLES = 3


class Tightness(NamedTuple):
    """How much nearer a video is to its own cluster than to the next.

    Attributes:
        each: (N,) silhouettes, in [-1, 1].
        shuffled: the mean silhouette of clusters of the same features with each column shuffled over the videos, which keeps
            every number and no video; a mean over a few shuffles.
    """

    each: NDArray[np.float64]
    shuffled: float

    @property
    def mean(self) -> float:
        """Of all videos."""
        return float(self.each.mean())

    def in_words(self) -> str:
        """For a person."""
        return f"silhouette {self.mean:.2f} (-1 to 1; {self.shuffled:.2f} with columns shuffled, which is what chance gives)"


def nearest(rows: Tensor, count: int) -> list[list[tuple[int, float]]]:
    """Of each of (N, D) rows the `count` others of the largest cosine, largest first, with it."""
    unit = F.normalize(rows.float(), dim=1)
    similar = (unit @ unit.T).fill_diagonal_(-torch.inf)
    values, places = similar.topk(count, dim=1)
    return [list(zip(p, v, strict=True)) for p, v in zip(places.tolist(), values.tolist(), strict=True)]


def clusters(rows: Tensor, count: int, seed: int = 0) -> list[tuple[list[int], list[int]]]:
    """k-means of rows of unit length, the best of ten starts: of each cluster its members, and the few nearest to its centre;
    the largest cluster first."""
    from scipy.cluster.vq import kmeans2

    unit = F.normalize(rows.double(), dim=1).numpy()
    best: tuple[float, NDArray[Any], NDArray[Any]] | None = None
    for start in range(10):
        centres, labels = kmeans2(unit, count, minit="++", rng=np.random.default_rng((seed, start)))
        spread = float(((unit - centres[labels]) ** 2).sum())
        if best is None or spread < best[0]:
            best = spread, centres, labels
    assert best is not None, "ten starts"
    _, centres, labels = best
    groups = []
    for k in range(count):
        members = np.flatnonzero(labels == k)
        if len(members):
            distance = ((unit[members] - centres[k]) ** 2).sum(1)
            groups.append((members.tolist(), members[np.argsort(distance, kind="stable")][:MEMBERS].tolist()))
    return sorted(groups, key=lambda group: -len(group[0]))


def cluster_count(labels: Sequence[str | None]) -> int:
    """How many clusters are shown: as many as there are classes, a fifth of the videos where there are none, at least
    two and at most eight."""
    named = len({*labels} - {None})
    return max(1, min(named if named > 1 else max(2, len(labels) // 5), CLUSTERS, len(labels)))


def tightness(rows: Tensor, count: int, seed: int = 0) -> Tightness:
    """Of the `clusters` of (N, D) rows, beside those of shuffled columns."""
    generator = np.random.default_rng(seed)
    controls = []
    for _ in range(SHUFFLES):
        columns = generator.permuted(rows.double().numpy(), axis=0)
        controls.append(_silhouettes(torch.from_numpy(columns), count, seed).mean())
    return Tightness(_silhouettes(rows, count, seed), float(np.mean(controls)))


def _silhouettes(rows: Tensor, count: int, seed: int) -> NDArray[np.float64]:
    labels = np.zeros(len(rows), dtype=np.int64)
    for number, (members, _) in enumerate(clusters(rows, count, seed)):
        labels[members] = number
    return silhouettes(F.normalize(rows.double(), dim=1).numpy(), labels)


def silhouettes(rows: NDArray[np.float64], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """(N,) silhouettes of (N, D) rows (Rousseeuw 1987, J. Comput. Appl. Math. 20:53): (b - a) / max(a, b), a being the mean distance to
    the other rows of the own cluster, b the least of those to another one; 0 for a row alone in its cluster, or with one cluster.
    """
    distances = torch.cdist(torch.from_numpy(rows), torch.from_numpy(rows)).numpy()
    member = labels[:, None] == np.unique(labels)
    sizes, totals = member.sum(0), distances @ member
    own = sizes @ member.T
    if len(sizes) < 2:
        return np.zeros(len(rows))
    a = (totals * member).sum(1) / np.maximum(own - 1, 1)
    b = np.where(member, np.inf, totals / sizes).min(1)
    widest = np.maximum(a, b)
    return np.where((own > 1) & (widest > 0), (b - a) / np.where(widest > 0, widest, 1), 0.0)
