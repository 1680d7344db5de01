"""Pairing rows with columns at the least cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.overlap import Array, as_array

Indices = NDArray[np.int64]


def assign(cost: Any, limit: float) -> tuple[Indices, Indices, Indices]:
    """The matching with the least Σ cost of its pairs + limit / 2 for every row and column left over.

    A pair is kept only where it costs less than `limit`, so that it pays. These are the pairs of `lap.lapjv` with
    ``extend_cost=True, cost_limit=limit`` (Jonker & Volgenant 1987), found by scipy.

    Args:
        cost: (n, m), n or m may be 0; inf forbids a pair, as does nan.
        limit: finite.

    Returns:
        pairs (K, 2) of row and column, by row; unmatched rows; unmatched columns.

    Raises:
        VidsslError: a cost that is no matrix or -inf, or a limit that is not finite.
    """
    costs = as_array(cost)
    if costs.ndim != 2 or np.isneginf(costs).any() or not np.isfinite(limit):
        raise VidsslError(
            f"costs of shape {costs.shape}, limit {limit}: must be (n, m) above -inf, with a finite limit"
        )
    # What a pair saves against leaving both over; one that saves nothing is as good as none.
    saved = np.where(costs < limit, limit - costs, 0.0)
    pairs = best_pairs(saved)
    pairs = pairs[costs[pairs[:, 0], pairs[:, 1]] < limit]
    n, m = costs.shape
    return pairs, np.setdiff1d(np.arange(n), pairs[:, 0]), np.setdiff1d(np.arange(m), pairs[:, 1])


def best_pairs(score: Array) -> Indices:
    """The pairs (min(n, m), 2) with the largest sum of scores (n, m), which are finite; sorted by row."""
    from scipy.optimize import linear_sum_assignment

    return np.stack(linear_sum_assignment(score, maximize=True), axis=1).astype(np.int64)
