"""How wide latents are and how large their steps: what a model of them can start from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

# Of the variance of latents, that counts as that of their steps even where they stand still.
SMALLEST_STEPS = 1e-4


class Moments(NamedTuple):
    """(m,) each: mean and variance of latents, and the mean square of their steps."""

    mean: Tensor
    variance: Tensor
    steps: Tensor


@torch.no_grad()
def latent_moments(z: Tensor, valid: Tensor | None = None) -> Moments:
    """Of latents (B, T, m), of those that are `valid` (B, T), all when None; steps lead from one valid latent to the next."""
    count = torch.ones_like(z[..., :1]) if valid is None else valid[..., None].to(z.dtype)
    both = count[:, 1:] * count[:, :-1]
    mean = (z * count).sum((0, 1)) / count.sum()
    variance = ((z - mean).square() * count).sum((0, 1)) / count.sum()
    variance = variance.clamp_min(torch.finfo(z.dtype).tiny)
    steps = (z.diff(dim=1).square() * both).sum((0, 1)) / both.sum().clamp_min(1)
    return Moments(mean, variance, torch.maximum(steps, SMALLEST_STEPS * variance))
