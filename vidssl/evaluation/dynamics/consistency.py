"""Whether two runs found the same latents: up to an affine map, which is all that identifiability promises.

A method whose latents are those of the world finds them again from another seed; held out, an affine map from one run's latents
to the other's then explains all of their variance (as the consistency of CEBRA, Schneider, Lee & Mathis 2023, arXiv 2204.00673).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.objectives.diagnostics import linear_cka

# Rows for the kernel alignment, whose kernels are rows by rows.
CKA_ROWS = 4000


def affine_r2(source: Tensor, target: Tensor, groups: Tensor, ridge: float = 1e-6) -> float:
    """R² of target ≈ W source + b, fitted to one half of the groups and judged on the other, both ways.

    Args:
        source: (N, d), target: (N, d'), row i of both of the same thing.
        groups: (N,) integers; rows of a group, as the frames of a video, stay together.
        ridge: added to the variances of the source, in units of their mean.

    Returns:
        1 - Σ squared errors / Σ squared distances from the target's mean in the half that was fitted: 1 for an affine map
        of the source, about 0 for what has nothing to do with it, and below where the rows are few for d.

    Raises:
        VidsslError: for fewer than two groups, or shapes that do not fit.
    """
    half = groups.unique(return_inverse=True)[1] % 2 == 1
    if len(source) != len(target) or len(source) != len(groups) or not bool(half.any()):
        shapes = f"{tuple(source.shape)}, {tuple(target.shape)}, {len(groups)} groups"
        raise VidsslError(f"affine_r2: needs the same rows of both, of at least two groups, got {shapes}")
    errors, total = 0.0, 0.0
    for fit in (half, ~half):
        x_mean, y_mean = source[fit].double().mean(dim=0), target[fit].double().mean(dim=0)
        x, y = source.double() - x_mean, target.double() - y_mean
        cov = x[fit].T @ x[fit]
        lift = ridge * cov.diagonal().mean() + torch.finfo(cov.dtype).tiny
        weight = torch.linalg.solve(cov + lift * torch.eye(len(cov)).to(cov), x[fit].T @ y[fit])
        errors += float((y[~fit] - x[~fit] @ weight).square().sum())
        total += float(y[~fit].square().sum())
    return 1 - errors / total


def compare_latents(first: LatentSequences, second: LatentSequences) -> dict[str, Any]:
    """How far two runs agree on the same videos.

    Args:
        first, second: latents of the same N videos at the same T steps; their dimensions may differ.

    Returns:
        `to_second`, `to_first`: `affine_r2` of the maps; `cka`: `linear_cka` of (at most 4,000, evenly chosen) rows;
        `rows`: how many there are, frames of the videos.

    Raises:
        VidsslError: for another number of steps, and as `affine_r2`.
    """
    if first.valid.shape != second.valid.shape:
        steps = f"{first.valid.shape[1]} and {second.valid.shape[1]}"
        raise VidsslError(f"{steps} latents of a clip: only runs with as many (pool_frames) can be compared")
    valid = first.valid & second.valid
    groups = torch.arange(len(valid))[:, None].expand_as(valid)[valid]
    a, b = first.z[valid], second.z[valid]
    some = torch.linspace(0, len(a) - 1, min(len(a), CKA_ROWS)).round().long()
    return {
        "to_second": affine_r2(a, b, groups),
        "to_first": affine_r2(b, a, groups),
        "cka": float(linear_cka(a[some], b[some])),
        "rows": len(a),
    }
