"""Rows of a concept space: which nearly coincide, which to merge, and how to remove what they all share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.space import NearDuplicate, Part, Whitening
from vidssl.errors import VidsslError

NEAR_DUPLICATE = 0.97  # cosine above which two rows are reported


def near_duplicates(
    rows: Tensor, ids: Sequence[str], space: Part, threshold: float = NEAR_DUPLICATE
) -> list[NearDuplicate]:
    """Pairs of unit rows (K, D) with a cosine above the threshold, closest first."""
    cosines = (rows.double() @ rows.double().T).triu(diagonal=1)
    first, second = torch.nonzero(cosines > threshold, as_tuple=True)
    found = zip(cosines[first, second].tolist(), first.tolist(), second.tolist(), strict=True)
    return [
        NearDuplicate(space=space, first=ids[i], second=ids[j], cosine=round(cosine, 6))
        for cosine, i, j in sorted(found, reverse=True)
    ]


def merge_groups(category: Tensor, description: Tensor, threshold: float) -> list[list[int]]:
    """Groups of concepts to make one row of.

    Two concepts belong together when their cosine is above the threshold in BOTH spaces ("push up", "pushup"); labels
    that differ in one small word ("from left to right", "from right to left") nearly coincide as names, and their
    descriptions keep them apart. Every pair within a group is above the threshold; the closest pairs are joined first.

    Args:
        category, description: (K, D) unit rows.
        threshold: cosine in (-1, 1].

    Returns:
        Groups that cover 0…K-1, each sorted, ordered by their first member.
    """
    cosines = torch.minimum(*(rows.double() @ rows.double().T for rows in (category, description)))
    pairs = torch.nonzero(cosines.triu(diagonal=1) > threshold)
    pairs = pairs[torch.argsort(cosines[pairs[:, 0], pairs[:, 1]], descending=True, stable=True)]
    group = {index: [index] for index in range(len(category))}
    for i, j in pairs.tolist():
        one, other = group[i], group[j]
        if one is not other and bool((cosines[one][:, other] > threshold).all()):
            joined = sorted(one + other)
            group.update(dict.fromkeys(joined, joined))
    unique = {members[0]: members for members in group.values()}
    return [unique[start] for start in sorted(unique)]


class Whitener:
    """An affine map fitted to unit rows, after which they are normalised again.

    ``center`` subtracts the mean row: the direction into which all texts of a CLIP model point. ``zca`` also gives the
    centred rows the identity as covariance on their span, the rest being dropped.

    Args:
        rows: (K, D) unit rows.
        kind: ``none``, ``center`` or ``zca``.

    Raises:
        VidsslError: for rows that are all the same.
    """

    def __init__(self, rows: Tensor, kind: Whitening) -> None:
        rows = rows.double()
        self.shift = torch.zeros_like(rows[0]) if kind == "none" else rows.mean(dim=0)
        self.matrix: Tensor | None = None
        centred = rows - self.shift
        if kind != "none" and float(centred.norm(dim=1).min()) < 1e-6:
            raise VidsslError(f"whiten {kind!r}: a row equals the mean of all rows; it has no direction left")
        if kind == "zca":
            values, vectors = torch.linalg.eigh(centred.T @ centred / len(rows))
            kept = values > 1e-6 * values[-1]
            self.matrix = (vectors[:, kept] / values[kept].sqrt()) @ vectors[:, kept].T

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows (..., D) mapped and normalised, float64; zero rows stay zero."""
        rows = rows.double()
        moved = rows - self.shift
        if self.matrix is not None:
            moved = moved @ self.matrix
        return F.normalize(moved, dim=-1).mul(rows.norm(dim=-1, keepdim=True) > 0)
