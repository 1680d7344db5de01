"""Frames of any size: what is checked of them, and how they are made to fill a grid of cells."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vidssl.errors import VidsslError


def check_frames(frames: Tensor) -> None:
    """Insist on (T, 3, H, W) floating point RGB in [0, 1], with some slack for what interpolation overshoots.

    Raises:
        VidsslError: for anything else, NaN among it.
    """
    shape = tuple(frames.shape)
    if frames.ndim != 4 or shape[1] != 3 or 0 in shape:
        raise VidsslError(f"patch features: frames of shape {shape}: must be (T, 3, H, W), none of them 0")
    if not frames.is_floating_point():
        raise VidsslError(f"patch features: frames are {frames.dtype}: must be floating point in [0, 1]")
    low, high = (value.item() for value in frames.aminmax())
    if not (low >= -0.5 and high <= 1.5):  # NaN is neither
        raise VidsslError(
            f"patch features: frames hold values from {low:g} to {high:g}: must be RGB in [0, 1]"
        )


def fill_cells(frames: Tensor, stride: int) -> Tensor:
    """(T, 3, H, W) with last rows and columns repeated up to the next multiples of `stride` pixels."""
    height, width = frames.shape[-2:]
    if height % stride == 0 and width % stride == 0:
        return frames
    return F.pad(frames, (0, -width % stride, 0, -height % stride), mode="replicate")
