"""Cutting and resizing: whole frames in the worker; on the device, boxes of a batch of clips from its uint8 canvas."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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
    if not _has_other_side(height, width, short_side, upsample):
        return frames
    return _resize(frames, [short_side], interpolation)


def stays(height: int, width: int, short_side: int, upsample: bool = False) -> bool:
    """Whether `resize_short_side` leaves frames of this size as they are."""
    is_long = max(height, width) > MAX_ASPECT * min(height, width)
    return not is_long and not _has_other_side(height, width, short_side, upsample)


def _has_other_side(height: int, width: int, short_side: int, upsample: bool) -> bool:
    side = min(height, width)
    return side > short_side or (side < short_side and upsample)


def squash(frames: Tensor, size: int, interpolation: str = "bilinear") -> Tensor:
    """(N, h, w, 3) uint8 -> (N, size, size, 3): the whole frame, aspect ratio changed, antialiased."""
    return _resize(frames, [size, size], interpolation)


def _resize(frames: Tensor, size: list[int], interpolation: str) -> Tensor:
    # Permuting gives channels-last images, the layout torch resizes in uint8 without a float copy.
    images = frames.permute(0, 3, 1, 2)
    images = tvf.resize(images, size, interpolation=InterpolationMode(interpolation), antialias=True)
    return torch.as_tensor(images).permute(0, 2, 3, 1)


def crop_resize(
    frames: Tensor, rows: Tensor, index: Tensor, box: Tensor, flip: Tensor, out: Tensor
) -> Tensor:
    """Crop, antialiased bilinear resize and mirror: one box per clip, the same for all its frames.

    Equals cropping each clip alone and resizing it with `torchvision.transforms.v2.functional.resize` (a triangle filter, as
    wide as a pixel of the output where that is the larger one; half-pixel centres). Neither the surroundings of a box nor the
    padding of the canvas is ever read, a box of the size of the output is copied exactly, and a clip is bit-identical whatever
    else is in the batch. Values are whole numbers; a CPU rounds between the two axes too, hence differs from other
    devices by at most one.

    Args:
        frames: (R, N, H, W, 3) uint8 canvas.
        rows: (B,) int64, the row of the canvas each clip reads; on the CPU, as are box and flip.
        index: (B, T) int64, the frames of each clip, into N; on the device of the frames.
        box: (B, 4) int64 top, left, height, width in pixels; inside the true size of the row.
        flip: (B,) bool, mirror left-right.
        out: (B, 3, T, S, S) float32, which is filled with values in [0, 255].

    Returns:
        `out`.
    """
    if frames.device.type == "cpu":
        return _crop_each(frames, rows, index, box, flip, out)
    return _crop_all(frames, rows, index, box, flip, out)


def _crop_each(frames: Tensor, rows: Tensor, index: Tensor, box: Tensor, flip: Tensor, out: Tensor) -> Tensor:
    """Clip by clip, with torch's own filter, which works on bytes: several times as fast as anything on floats."""
    size = out.shape[-2:]
    boxes = zip(rows.tolist(), box.tolist(), flip.tolist(), strict=True)
    for clip, indices, (row, (top, left, height, width), mirror) in zip(out, index, boxes, strict=True):
        part = frames[row, :, top : top + height, left : left + width].index_select(0, indices)
        images = part.permute(0, 3, 1, 2)  # channels last in memory
        if (height, width) != size:
            images = F.interpolate(images, size, mode="bilinear", antialias=True)
        clip.copy_((images.flip(3) if mirror else images).transpose(0, 1))
    return out


def _crop_all(frames: Tensor, rows: Tensor, index: Tensor, box: Tensor, flip: Tensor, out: Tensor) -> Tensor:
    """All clips at once, tap by tap: few launches, and no sum whose order depends on the batch."""
    num, height = frames.shape[1:3]
    size = out.shape[-1]
    top, left, box_height, box_width = box.unbind(1)
    lines_at, line_weights = _taps(top, box_height, size)
    columns_at, column_weights = _taps(left, box_width, size)
    columns_at, column_weights = (
        torch.where(flip[:, None, None], taps.flip(1), taps) for taps in (columns_at, column_weights)
    )
    numbers = (rows, lines_at, line_weights, columns_at, column_weights)
    rows, lines_at, line_weights, columns_at, column_weights = (
        v.to(frames.device, non_blocking=True) for v in numbers
    )
    lines = rearrange(frames, "r n h w c -> (r n h) w c")
    first_line = (rows[:, None, None] * num + index[:, :, None]) * height  # (B, T, 1)
    high = torch.zeros((*index.shape, size, *lines.shape[1:]), device=out.device)  # (B, T, S, W, 3)
    for at, weights in zip(lines_at.unbind(2), line_weights.unbind(2), strict=True):
        picked = lines.index_select(0, (first_line + at[:, None]).flatten()).view(high.shape)
        high.addcmul_(picked.float(), rearrange(weights, "b y -> b 1 y 1 1"))
    out.zero_()
    for at, weights in zip(columns_at.unbind(2), column_weights.unbind(2), strict=True):
        places = rearrange(at, "b x -> b 1 1 x 1").expand(*high.shape[:3], -1, 3)
        picked = rearrange(high.gather(3, places), "b t y x c -> b c t y x")
        out.addcmul_(picked, rearrange(weights, "b x -> b 1 1 1 x"))
    return out.round_().clamp_(0, 255)


def _taps(offset: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The filter of `size` samples of [offset, offset + length): places (B, S, K) int64 and weights (B, S, K) that add up to 1.

    K is the most that any clip needs; the taps beyond a clip's own have weight 0, so that its sums are the same in any batch.
    """
    scale = (length.double() / size)[:, None, None]
    reach = scale.clamp_min(1.0)
    centre = (torch.arange(size, device=offset.device)[:, None] + 0.5) * scale  # (B, S, 1)
    first = (centre - reach + 0.5).long().clamp_min(0)
    taps = first + torch.arange(int(2 * reach.max()) + 2, device=offset.device)  # (B, S, K)
    weights = (1 - ((taps + 0.5 - centre) / reach).abs()).clamp_min(0) * (taps < length[:, None, None])
    weights = weights / weights.sum(2, keepdim=True)
    return offset[:, None, None] + torch.minimum(taps, length[:, None, None] - 1), weights.float()
