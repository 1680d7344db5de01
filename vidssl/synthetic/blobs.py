"""Frames of a moving blob: drawn at a position, under pixel noise, swirled."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

FRAME_SIZE = 10
# The frame shows the square from -3 to 3.
HALF_WIDTH = 3.0
# Radius at which the swirl of scikit-image has decayed to a thousandth, in its own unit.
SWIRL_DECAY = math.log(2) / 5


def blob_frames(position: Tensor, size: int = FRAME_SIZE) -> Tensor:
    """Gaussian blobs of one pixel's width: (…, 2) positions to (…, size, size).

    The first coordinate runs along the rows, from -3 at row 0; the centre is kept inside the frame.
    """
    centre = ((position + HALF_WIDTH) * size / (2 * HALF_WIDTH)).clamp(0, size - 1)
    grid = torch.arange(size, dtype=position.dtype, device=position.device)
    rows, columns = torch.exp(-0.5 * (grid - centre[..., None]).square()).unbind(-2)
    return rows[..., :, None] * columns[..., None, :]


def with_noise(frames: Tensor, variance: float | Tensor, generator: Generator | None = None) -> Tensor:
    """Independent Gaussian noise on every pixel; `variance` is a number or broadcasts to the frames."""
    noise = torch.randn(frames.shape, generator=generator, dtype=frames.dtype)
    return torch.addcmul(frames, noise, torch.as_tensor(variance, dtype=frames.dtype).sqrt())


def swirl(frames: Tensor, strength: float, radius: float) -> Tensor:
    """Turns every pixel (…, H, W) around the centre, the more the nearer it is: what scikit-image calls swirl.

    A pixel at distance ρ from (W/2, H/2) is read at an angle larger by strength · exp(-ρ / r), r = radius · log 2 / 5,
    by bilinear interpolation; what lies outside is mirrored, without repeating the edge.
    """
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (height, width)), indexing="ij")
    x, y = x - width / 2, y - height / 2
    rho = torch.hypot(x, y)
    theta = torch.atan2(y, x) + strength * torch.exp(-rho / (radius * SWIRL_DECAY))
    # Reading is linear in the frame: a matrix whose rows hold the bilinear weights of all pixels.
    rows = _bilinear(height / 2 + rho * theta.sin(), height)
    columns = _bilinear(width / 2 + rho * theta.cos(), width)
    read = (rows[..., :, None] * columns[..., None, :]).reshape(height * width, -1).to(frames)
    swirled: Tensor = frames.flatten(-2) @ read.T
    return swirled.reshape(frames.shape)


def _bilinear(x: Tensor, size: int) -> Tensor:
    """(…, size) weights of the pixels of one axis when it is read at x (…), mirrored at the centres of the end pixels."""
    folded = x.remainder(2 * (size - 1)) if size > 1 else torch.zeros_like(x)
    inside = torch.minimum(folded, 2 * (size - 1) - folded)
    return (1 - (inside[..., None] - torch.arange(size)).abs()).clamp_min(0)
