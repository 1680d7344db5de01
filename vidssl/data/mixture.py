"""Several sets of videos trained on as one, each with its share of the clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vidssl.data.rng import Purpose, stream
from vidssl.errors import VidsslError

Visits = NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """Sets of videos that lie one after the other in an index, and how many videos of an epoch come from each.

    Attributes:
        sizes: videos of each set. shares: videos of an epoch from each set, a video counted as often as it is shown.
    """

    sizes: tuple[int, ...]
    shares: tuple[int, ...]

    @classmethod
    def of(cls, sizes: Sequence[int], weights: Sequence[float] | None = None) -> Mixture:
        """Shares in proportion to `weights`, of an epoch of as many videos as there are (largest remainders).

        Args:
            weights: positive, of any sum; None shows every video once in an epoch.

        Raises:
            VidsslError: when a weight is so small that its set has no share.
        """
        if weights is None:
            return cls(tuple(sizes), tuple(sizes))
        total = sum(sizes)
        exact = np.asarray(weights, dtype=np.float64) / np.sum(weights) * total
        shares = np.floor(exact).astype(np.int64)
        shares[np.argsort(shares - exact, kind="stable")[: total - int(shares.sum())]] += 1
        if not shares.all():
            place = int(np.argmin(shares))
            raise VidsslError(
                f"data.train.{place}.weight={weights[place]:g}: leaves its set none of the {total} videos of an epoch"
            )
        return cls(tuple(sizes), tuple(shares.tolist()))

    def epoch(self, seed: int, epoch: int) -> tuple[Visits, NDArray[np.int64]]:
        """The videos of an epoch in order, sum(sizes) of them: (which visit to the video it is, its place in the index).

        A permutation drawn from (seed, epoch) mixes the sets. One that is shown as often as it has videos shows each once.
        Any other goes on where it stopped in the epoch before, through permutations of its own drawn from (seed, round
        through the set, set): after any number of epochs no video of it has been shown more than once more than another.
        Visits count these rounds, so that no two clips of a video have the same.
        """
        visits, index = [], []
        for number, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            first = sum(self.sizes[:number])
            if size == share:
                visits.append(np.full(size, epoch, dtype=np.int64))
                index.append(first + np.arange(size))
                continue
            rounds, places = np.divmod(epoch * share + np.arange(share), size)
            videos = np.empty(share, dtype=np.int64)
            for one in np.unique(rounds).tolist():
                order = stream(seed, Purpose.ORDER, one, 1 + number).permutation(size)
                videos[rounds == one] = order[places[rounds == one]]
            visits.append(rounds)
            index.append(first + videos)
        mixed = stream(seed, Purpose.ORDER, epoch).permutation(sum(self.shares))
        return np.concatenate(visits)[mixed], np.concatenate(index)[mixed]
