"""Numbers of one encoder's features: those of the methods (`objectives.diagnostics`), null where there is none."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from vidssl.objectives import diagnostics

NOISE = "white noise of this size"


def geometry_of(views: Tensor, shown: Tensor) -> dict[str, float | int | None]:
    """Rank, spectrum and spread of the means over views, and what the views of a video share.

    Args:
        views: (N, V, D) features of N videos in V clips, finite. shown: (N, V) bool, False for a clip that is another's copy.

    Returns:
        `rankme`, `effective_rank`, `spectrum_exponent`, `uniformity` and `std` of (N, D), a row a video; `alignment` (mean over the pairs of
        views) and `lidar` of the videos that have all V of them, null for fewer than two such videos or views; `videos`, `whole`: how many
        there are of both; `dimensions`. All but counts are null where a row is zero, which has no direction.
    """
    weight = shown.to(views.dtype)[..., None]
    rows = ((views * weight).sum(1) / weight.sum(1)).double()
    whole = views[shown.all(dim=1)].double()
    found: dict[str, float | int | None] = {
        "videos": len(rows),
        "whole": len(whole),
        "dimensions": rows.shape[1],
        "rankme": None,
        "effective_rank": None,
        "spectrum_exponent": None,
        "uniformity": None,
        "std": None,
        "alignment": None,
        "lidar": None,
    }
    if not bool((rows.norm(dim=1) > 0).all()):
        return found
    found |= {
        "rankme": number(diagnostics.rankme(rows)),
        "effective_rank": number(diagnostics.effective_rank(rows)),
        "spectrum_exponent": number(diagnostics.spectrum_exponent(rows)),
        "uniformity": number(diagnostics.uniformity(rows)) if len(rows) > 1 else None,
        "std": number(diagnostics.dimension_std(rows)) if len(rows) > 1 else None,
    }
    if len(whole) > 1 and whole.shape[1] > 1:
        pairs = [
            diagnostics.alignment(whole[:, a], whole[:, b]) for a, b in combinations(range(whole.shape[1]), 2)
        ]
        found |= {"alignment": number(torch.stack(pairs).mean()), "lidar": number(diagnostics.lidar(whole))}
    return found


def noise_like(views: Tensor, shown: Tensor, seed: int = 0) -> dict[str, float | int | None]:
    """`geometry_of` independent normal numbers of the same shape: what so many videos and dimensions can say at most, and of nothing."""
    generator = torch.Generator().manual_seed(seed)
    return geometry_of(torch.randn(views.shape, generator=generator, dtype=torch.float64), shown)


def number(value: Any) -> float | None:
    """A float, None where it is not finite: a result has no number then."""
    return float(value) if math.isfinite(float(value)) else None
