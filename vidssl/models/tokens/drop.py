"""Leaving patches out in training: which ones, as a pure function of a key for each clip.

Random token dropping makes a step cheaper and is an augmentation by itself (Kuhn et al. 2026, LeVJEPA). Keys come with the
views of a batch, from (seed, epoch, video, view); what is kept is the same on any number of processes, on any device and
after a resume.
"""

from __future__ import annotations

import torch
from torch import Tensor

MOST = 0.95  # share of patches that can be left out


def kept_patches(keys: Tensor, frames: int, patches: int, drop: float, *, tubes: bool) -> Tensor:
    """The patches that stay, drawn without replacement, equally likely everywhere.

    Every frame keeps as many, so that none is left without; which ones is drawn anew for each frame, or with `tubes` once
    for all frames of a clip, as attention along time at a place needs it.

    Args:
        keys: (B,) int64, any numbers.
        frames, patches: T and N.
        drop: share that is left out, in [0, 1); at least one patch stays.

    Returns:
        (B, T, k) int64 indices, ascending.
    """
    count = max(1, round((1 - drop) * patches))
    cells = torch.arange((1 if tubes else frames) * patches, device=keys.device)
    scores = _mixed(_mixed(keys)[:, None] ^ cells).unflatten(1, (-1, patches))
    kept: Tensor = scores.argsort(dim=2, stable=True)[:, :, :count].sort(dim=2).values
    return kept.expand(-1, frames, -1)


def piece_keys(keys: Tensor, pieces: int) -> Tensor:
    """(B * n,) keys for clips cut into n pieces each, row by row; one piece has the clip's own key."""
    return (keys[:, None] + torch.arange(pieces, device=keys.device)).flatten()


def _mixed(x: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele et al. 2014, "Fast splittable pseudorandom number generators"), a bijection whose
    output bits each depend on all input bits; int64 arithmetic wraps as unsigned does."""
    x = x + -7046029254386353131  # 0x9E3779B97F4A7C15
    x = (x ^ _shifted(x, 30)) * -4658895280553007687  # 0xBF58476D1CE4E5B9
    x = (x ^ _shifted(x, 27)) * -7723592293110705685  # 0x94D049BB133111EB
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
