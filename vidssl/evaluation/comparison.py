"""Two encoders on the same videos: by how much one is right more often, and how sure that is.

The intervals of two accuracies say little of their difference, because both encoders saw the same videos; only those on
which exactly one of them was right do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from vidssl.errors import counted
from vidssl.evaluation.metrics import group_interval

RESAMPLES = 10_000


def paired_comparison(
    first: Tensor, second: Tensor, seed: int = 0, groups: Tensor | None = None
) -> dict[str, Any]:
    """The difference of two accuracies over the same N videos.

    Args:
        first, second: (N,) bool, where each was right.
        seed: of the resampling.
        groups: (N,) integers, equal for videos that were recorded together, which are then resampled as one. McNemar's test
            knows nothing of them.

    Returns:
        `difference` (first - second); `interval`, 95 % of the differences over 10,000 resamples of the videos (percentile
        bootstrap); `only_first`, `only_second`: videos that only one got right; `p`: McNemar's exact two-sided test of
        equal accuracy (binomial over those videos; McNemar 1947); `seed`.

    Raises:
        ValueError: for no videos, or another number of them.
    """
    total = len(first)
    if total == 0 or len(second) != total:
        raise ValueError(f"paired_comparison: {total} and {len(second)} videos")
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    # A resample of the videos is, as far as the difference goes, a multinomial draw of the three kinds of video.
    shares = np.array([only_first, only_second, total - only_first - only_second]) / total
    draws = np.random.default_rng(seed).multinomial(total, shares, size=RESAMPLES)
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / total, [0.025, 0.975])
    if groups is not None:
        low, high = group_interval(first.double() - second.double(), groups, seed)
    return {
        "difference": (only_first - only_second) / total,
        "interval": (float(low), float(high)),
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar_exact(only_first, only_second),
        "seed": seed,
    }


def mcnemar_exact(only_first: int, only_second: int) -> float:
    """Probability of a split at least as uneven, were either side as likely for each of these videos; 1 for none."""
    total = only_first + only_second
    tail, term = 0, 1
    for wins in range(min(only_first, only_second) + 1):
        tail += term
        term = term * (total - wins) // (wins + 1)
    return float(min(1.0, 2 * tail / 2**total))


def compare_to_untrained(
    correct: Mapping[str, Tensor], seed: int = 0, groups: Tensor | None = None
) -> dict[str, dict[str, Any]]:
    """`paired_comparison` of every row that is called ``trained…`` with the row ``untrained…``, by the first's name."""
    pairs = {name: f"un{name}" for name in correct if name.startswith("trained")}
    return {
        name: {"to": other, **paired_comparison(correct[name], correct[other], seed, groups)}
        for name, other in pairs.items()
        if other in correct
    }


def format_comparison(name: str, record: Mapping[str, Any]) -> str:
    """``trained - untrained: +3.1 points [+0.4, +5.9], McNemar p = 0.03 (5 videos right only for the first, 1 only for
    the second)``."""
    low, high = record["interval"]
    shown = "p < 0.001" if record["p"] < 0.001 else f"p = {record['p']:.2g}"
    return (
        f"{name} - {record['to']}: {100 * record['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}], "
        f"McNemar {shown} ({counted(record['only_first'], 'video')} right only for the first, {record['only_second']} only for the second)"
    )
