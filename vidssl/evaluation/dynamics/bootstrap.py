"""Numbers with an interval over videos, from resamples of the videos (Efron 1979)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

DRAWS = 2000


class Estimate(NamedTuple):
    """A number and its 95 % interval from resampled videos."""

    value: float
    interval: tuple[float, float]


def resample_counts(videos: int, generator: torch.Generator) -> Tensor:
    """(DRAWS, N) how often each video is drawn in a resample of N videos."""
    drawn = torch.randint(videos, (DRAWS, videos), generator=generator)
    weights = torch.zeros(DRAWS, videos, dtype=torch.float64)
    return weights.scatter_add_(1, drawn, torch.ones_like(weights))


def ratio_estimate(above: Tensor, below: Tensor, resamples: Tensor, root: bool = False) -> Estimate:
    """Σ above / Σ below over videos (N,), with its interval; its square root where wanted."""
    value = above.sum() / below.sum()
    draws = (resamples @ above) / (resamples @ below)
    draws = draws[draws.isfinite()]
    if root:
        value, draws = value.sqrt(), draws.sqrt()
    low, high = (float(draws.quantile(p)) for p in (0.025, 0.975))
    return Estimate(float(value), (low, high))
