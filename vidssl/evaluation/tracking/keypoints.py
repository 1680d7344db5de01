"""Key points as heat maps, points read from heat maps, and how many are found: PCK as on JHMDB.

Points are (x, y). On the grid of features a whole number is the middle of a cell; what is left of 0 is missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from einops import rearrange
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vidssl.errors import VidsslError

Points = NDArray[np.float64]


def heatmaps(points: ArrayLike | Tensor, size: tuple[int, int]) -> Tensor:
    """Labels of frame 0 for `propagate`: a Gaussian for each point (CRW, Jabri et al. 2020; UniTrack, Wang et al. 2021).

    Its standard deviation is max(0.5, 0.015 times the larger side of the box round all points) cells, its height 1; it ends at
    three standard deviations on each axis.

    Args:
        points: (J, 2) in cells; x < 0 or NaN is missing.
        size: (h, w) of the grid.

    Returns:
        (1 + J, h, w) float32, float64 for points in float64; channel 0, the background, is 1 where all others are 0. The map
        of a missing point is empty, as is that of one far outside of the grid.

    Raises:
        VidsslError: for points of another shape.
    """
    points = torch.as_tensor(points)
    points = points.to(torch.promote_types(points.dtype, torch.float32))
    if points.ndim != 2 or points.shape[1] != 2:
        raise VidsslError(f"points: shape {tuple(points.shape)}: must be (J, 2)")
    there = (points[:, 0] >= 0) & points.isfinite().all(dim=1)
    seen = points[there]
    extent = float((seen.amax(dim=0) - seen.amin(dim=0)).max()) if len(seen) else 0.0
    sigma = max(0.5, 0.015 * extent)
    x = torch.arange(size[1], device=points.device) - points[:, :1]
    y = torch.arange(size[0], device=points.device) - points[:, 1:]
    dx, dy = rearrange(x, "j w -> j 1 w"), rearrange(y, "j h -> j h 1")
    near = (dx.abs() <= 3 * sigma) & (dy.abs() <= 3 * sigma) & rearrange(there, "j -> j 1 1")
    maps = (-(dx**2 + dy**2) / (2 * sigma**2)).exp().where(near, 0)
    background = (maps == 0).all(dim=0, keepdim=True).to(maps.dtype)
    return torch.cat([background, maps])


def read_points(soft: Tensor, top: int = 5) -> Tensor:
    """Where each heat map is high: the mean of its `top` highest cells, weighted by their values.

    Args:
        soft: (1 + J, h, w), not negative; channel 0 is the background.
        top: 5 in CropMAE, 3 in CRW and UniTrack; all cells, where they are fewer.

    Returns:
        (J, 2) in cells; (-1, -1) where a map is zero everywhere.

    Raises:
        VidsslError: for another shape, values that are not finite or below 0, `top` below 1.
    """
    if soft.ndim != 3 or 0 in soft.shape:
        raise VidsslError(f"heat maps: shape {tuple(soft.shape)}: must be (1 + J, h, w), none of them 0")
    if not (soft.isfinite() & (soft >= 0)).all():
        raise VidsslError("heat maps: must be finite and not negative")
    if top < 1:
        raise VidsslError(f"top={top}: must be at least 1")
    maps = rearrange(soft.to(torch.promote_types(soft.dtype, torch.float32)), "j h w -> j (h w)")[1:]
    values, cells = maps.topk(min(top, maps.shape[1]), dim=1)
    highest = values[:, :1]
    values = values / highest.where(highest > 0, 1)
    weights = values / values.sum(dim=1, keepdim=True).where(highest > 0, 1)
    width = soft.shape[2]
    x, y = (weights * (cells % width)).sum(dim=1), (weights * (cells // width)).sum(dim=1)
    return torch.stack([x, y], dim=1).where(highest > 0, -1)


def pck(
    predicted: Sequence[ArrayLike | Tensor],
    true: Sequence[ArrayLike | Tensor],
    at: Sequence[float] = (0.1, 0.2),
) -> Points:
    """Percentage of correct key points, mean over joints, of JHMDB (Jhuang et al. 2013; the evaluation of CRW).

    A point is correct within a fraction of 0.6 times the diagonal of the box round the frame's true points that are scored.
    Frame 0, points predicted at x < 0 and points whose truth is not known are not scored: `missing_fraction` says how many
    were not predicted, without which PCK does not say much. A prediction that is not a number is wrong.

    Args:
        predicted, true: for each video (T, J, 2) in pixels; true points at (-1, -1) or NaN are not known.
        at: the fractions.

    Returns:
        (len(at),) per cent; NaN where nothing is scored. Joints that are never scored are left out of the mean.

    Raises:
        VidsslError: for videos or joints that do not match.
    """
    pairs = _videos(predicted, true)
    hits, counts = np.zeros((len(at), pairs[0][1].shape[1])), np.zeros(pairs[0][1].shape[1])
    for found, wanted in pairs:
        scored = _known(wanted) & ~(found[..., 0] < 0)
        some = scored.any(axis=1)
        found, wanted, scored = found[some], wanted[some], scored[some]
        low = np.where(scored[..., None], wanted, np.inf).min(axis=1)
        high = np.where(scored[..., None], wanted, -np.inf).max(axis=1)
        limit = 0.6 * np.linalg.norm(high - low, axis=1, keepdims=True)
        distance = np.linalg.norm(found - wanted, axis=2)
        hits += [((distance <= fraction * limit) & scored).sum(axis=0) for fraction in at]
        counts += scored.sum(axis=0)
    if not counts.any():
        return np.full(len(at), np.nan)
    share: Points = 100 * (hits[:, counts > 0] / counts[counts > 0]).mean(axis=1)
    return share


def missing_fraction(predicted: Sequence[ArrayLike | Tensor], true: Sequence[ArrayLike | Tensor]) -> float:
    """Share of the points that `pck` could have scored, but for their prediction, which is missing (x < 0).

    Args:
        predicted, true: as in `pck`.

    Returns:
        In [0, 1]; NaN where no true point is known.

    Raises:
        VidsslError: for videos or joints that do not match.
    """
    missing = np.concatenate(
        [(found[..., 0] < 0)[_known(wanted)] for found, wanted in _videos(predicted, true)]
    )
    return float(missing.mean()) if len(missing) else math.nan


def _known(points: Points) -> NDArray[np.bool_]:
    known: NDArray[np.bool_] = ~(np.isnan(points).any(axis=-1) | (points == -1).all(axis=-1))
    return known


def _videos(
    predicted: Sequence[ArrayLike | Tensor], true: Sequence[ArrayLike | Tensor]
) -> list[tuple[Points, Points]]:
    """(predicted, true) of each video, (T - 1, J, 2), without frame 0."""
    if len(predicted) != len(true) or not len(true):
        raise VidsslError(
            f"key points of {len(predicted)} videos, true ones of {len(true)}: must be as many, at least one"
        )
    pairs: list[tuple[Points, Points]] = []
    for video, (found, wanted) in enumerate(zip(predicted, true, strict=True)):
        points, truth = (
            np.asarray(torch.as_tensor(given).cpu(), dtype=np.float64) for given in (found, wanted)
        )
        if truth.ndim != 3 or truth.shape[1] < 1 or truth.shape[2] != 2 or points.shape != truth.shape:
            raise VidsslError(
                f"video {video}: key points of shape {points.shape}, true ones of {truth.shape}: must be (T, J, 2) both"
            )
        if pairs and truth.shape[1] != pairs[0][1].shape[1]:
            raise VidsslError(
                f"video {video}: {truth.shape[1]} joints, but video 0 has {pairs[0][1].shape[1]}"
            )
        pairs.append((points[1:], truth[1:]))
    return pairs
