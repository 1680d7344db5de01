"""Cutting and resizing: whole frames in the worker; on the device, boxes of a batch of clips from its uint8 canvas."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

MAX_ASPECT = 4  # long side over short side; the rest is cut off at both ends before resizing


def resize_short_side(
    frames: Tensor, short_side: int, upsample: bool = False, interpolation: str = "bilinear"
) -> Tensor:
    """(N, h, w, 3) uint8 with the short side shrunk to `short_side` (also enlarged with `upsample`), antialiased.

    The aspect ratio is kept; frames longer than 4:1 are first cut to 4:1 around their centre.
    """
    height, width = frames.shape[1:3]
    limit = MAX_ASPECT * min(height, width)
    top, left = max(0, height - limit) // 2, max(0, width - limit) // 2
    frames = frames[:, top : top + limit, left : left + limit]
    if min(height, width) == short_side or (min(height, width) < short_side and not upsample):
        return frames
    return _resize(frames, [short_side], interpolation)


def squash(frames: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """(N, h, w, 3) uint8 -> (N, size, size, 3): the whole frame, aspect ratio changed, antialiased."""
    return _resize(frames, [size, size], interpolation)


def _resize(frames: Tensor, size: list[int], interpolation: str) -> Tensor:
    # Permuting gives channels-last images, the layout torch resizes in uint8 without a float copy.
    images = frames.permute(0, 3, 1, 2)
    images = tvf.resize(images, size, interpolation=InterpolationMode(interpolation), antialias=True)
    return torch.as_tensor(images).permute(0, 2, 3, 1)


def crop_resize(frames: Tensor, rows: Tensor, index: Tensor, box: Tensor, flip: Tensor, size: int) -> Tensor:
    """Bilinear crop+resize (+ mirror) in one go, one box per clip, the same for all its frames.

    Equals cropping each clip alone and resizing it with bilinear interpolation, half-pixel centres, without
    antialiasing: the taps are clamped to the box, so neither its surroundings nor the padding of the canvas is ever
    read, and a box of size x size is copied exactly. Lines are fetched as bytes, then columns, and only the taps become
    floats. Each output pixel is computed from its own four taps alone, with no reference to the canvas size (which
    `grid_sample` has, through its normalised coordinates), hence bit-identical whatever else is in the batch.

    Args:
        frames: (R, N, H, W, 3) uint8 canvas.
        rows: (B,) int64, the row of the canvas each clip reads.
        index: (B, T) int64, the frames of each clip, into N.
        box: (B, 4) int64 top, left, height, width in pixels; inside the true size of the row.
        flip: (B,) bool, mirror left-right.
        size: S, side of the square output.

    Returns:
        (B, 3, T, S, S) float32 in [0, 255].
    """
    num, height = frames.shape[1:3]
    top, left, box_height, box_width = box.unbind(1)
    y0, y1, wy = _taps(top, box_height, size)
    x0, x1, wx = (torch.where(flip[:, None], taps.flip(1), taps) for taps in _taps(left, box_width, size))

    lines = rearrange(frames, "r n h w c -> (r n h) (w c)")
    first_line = (rows[:, None, None] * num + index[:, :, None]) * height  # (B, T, 1)
    channel = torch.arange(3, device=frames.device)[:, None]

    def columns(x: Tensor) -> Tensor:
        places = rearrange(x[:, None] * 3 + channel, "b c x -> b 1 (c x)")
        return places.expand(-1, index.shape[1] * size, -1)

    left_columns, right_columns = columns(x0), columns(x1)

    def blended_lines(y: Tensor) -> Tensor:
        picked = lines.index_select(0, (first_line + y[:, None]).flatten())
        picked = rearrange(picked, "(b ty) wc -> b ty wc", b=len(rows))
        a, b = (
            rearrange(picked.gather(2, places), "b (t y) (c x) -> b c t y x", y=size, c=3).to(
                torch.float32, memory_format=torch.contiguous_format
            )
            for places in (left_columns, right_columns)
        )
        return a.lerp_(b, wx[:, None, None, None])

    return blended_lines(y0).lerp_(blended_lines(y1), wy[:, None, None, :, None])


def _taps(offset: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Lower tap, upper tap (int64) and weight of the upper one for `size` samples of [offset, offset + length)."""
    scale = length.float() / size
    centre = (torch.arange(size, device=offset.device) + 0.5) * scale[:, None] - 0.5
    last = length[:, None] - 1
    centre = torch.minimum(centre.clamp_(min=0), last.float())
    low = centre.floor()
    weight = centre - low
    low = low.long()
    return offset[:, None] + low, offset[:, None] + torch.minimum(low + 1, last), weight
