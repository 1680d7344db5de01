"""What latent distribution matching reads of one view: latents, what is predicted of them, and which frames are real."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics.ssm import input_noise


class LatentView(NamedTuple):
    """One view: latents and targets (B, T, m), noise of the observations, which frames are real, and when they are."""

    z: Tensor
    target: Tensor
    R: Tensor | None
    valid: Tensor | None
    times: Tensor | None


def latent_view(rows: Tensor, target: Tensor | None, times: Tensor | None, dim: int) -> LatentView:
    """A view from its rows.

    Args:
        rows: (B, T, m), or (B, T, 2m) with the noise of every frame in the second half (see `input_noise`).
        target: (B, T, at least m) what is predicted; the latents themselves when None.
        times: (B, T) seconds; a frame whose time does not lie after all earlier ones is padding.
        dim: m.
    """
    valid = None if times is None else _real_frames(times)
    if valid is not None:
        rows = torch.where(valid[..., None], rows, 0)
    z, raw = rows[..., :dim], rows[..., dim:]
    if target is None:
        target = z
    else:
        target = target[..., :dim] if valid is None else torch.where(valid[..., None], target[..., :dim], 0)
    return LatentView(z, target, input_noise(raw) if raw.shape[-1] else None, valid, times)


def _real_frames(times: Tensor) -> Tensor | None:
    """(B, T) bool, which frames lie after all earlier ones; None when all do."""
    later = times[:, 1:] > times.cummax(dim=1).values[:, :-1]
    if bool(later.all()):
        return None
    return torch.cat([torch.ones_like(later[:, :1]), later], dim=1)
