"""Windows of a frame, resized to squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional

from vidssl.evaluation.tracking.overlap import Array

# Mean colour of ImageNet, which is what encoders' normalisation takes for nothing.
MEAN_COLOUR = (0.485, 0.456, 0.406)


def crop_windows(frame: Tensor, windows: Array, size: int, border: Sequence[float] = MEAN_COLOUR) -> Tensor:
    """Cut windows out of a frame and resize each to `size` x `size`, whatever its aspect ratio.

    Pixel x' of a crop shows the place left + x' (right - left) / (size - 1), bilinear between pixel centres, which have
    whole coordinates. That is `cv2.warpAffine` with a constant border, without its rounding to 1/32 pixel.

    Args:
        frame: (3, H, W) float.
        windows: (N, 4) rows (left, top, right, bottom); may reach over the frame.
        size: of the crops in pixels, at least 2.
        border: RGB of what is outside of the frame.

    Returns:
        (N, 3, size, size).
    """
    sides = torch.from_numpy(windows).to(frame)
    along = torch.linspace(0, 1, size, dtype=frame.dtype, device=frame.device)
    first, last = rearrange(sides, "n (end xy) -> end n xy 1", end=2)
    places = first + along * (last - first)  # (N, xy, size) pixels
    extent = frame.new_tensor([frame.shape[2], frame.shape[1]])[:, None]
    x, y = rearrange((2 * places + 1) / extent - 1, "n xy size -> xy n size")  # grid_sample's -1 .. 1
    grid = torch.stack((x[:, None, :].expand(-1, size, -1), y[:, :, None].expand(-1, -1, size)), dim=-1)
    # Outside of the frame grid_sample has zeros, so the border's colour is taken for zero.
    zero = frame.new_tensor(border)[:, None, None]
    frames = (frame - zero).expand(len(windows), -1, -1, -1)
    return (
        functional.grid_sample(frames, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        + zero
    )
