"""Deterministic evaluation views: fixed clips, fixed crops, and the preprocessing of the image encoder reproduced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vidssl.data.batch import ClipBatch
from vidssl.data.clips import ClipSpec
from vidssl.data.views.colour import Triple, normalize_
from vidssl.data.views.crop import crop_resize
from vidssl.errors import VidsslError, check_value


@dataclass(frozen=True)
class EvalSpec:
    """What an evaluated video is shown as: `clips_per_video` x `crops` clips.

    Args:
        clip: frames of a clip and how they are spread; `ClipSpec(T, seconds=math.inf)` for the whole video.
        clips_per_video: clips centred in equal segments of the video.
        size: side of the square clip, in pixels.
        resize: "crop" resizes the short side to `short_side` and crops squares of `size`; "squash" resizes the whole
            frame to a square, so nothing is cut off and the aspect ratio changes.
        crops: 1 (centre) or 3 (start, centre and end of the long side).
        short_side: None for `size`, as CLIP does; e.g. 256 with size 224 for the protocol of Kinetics classifiers.
        interpolation: of the resize in the worker, always antialiased; CLIP uses "bicubic".
    """

    clip: ClipSpec
    clips_per_video: int = 1
    size: int = 224
    resize: Literal["crop", "squash"] = "crop"
    crops: Literal[1, 3] = 1
    short_side: int | None = None
    interpolation: Literal["bicubic", "bilinear"] = "bicubic"

    def __post_init__(self) -> None:
        filters = ("bicubic", "bilinear")
        check_value("clips_per_video", self.clips_per_video, self.clips_per_video >= 1, "at least 1")
        check_value("resize", repr(self.resize), self.resize in ("crop", "squash"), "'crop' or 'squash'")
        check_value(
            "interpolation",
            repr(self.interpolation),
            self.interpolation in filters,
            "'bicubic' or 'bilinear'",
        )
        check_value("crops", self.crops, self.crops in (1, 3), "1 or 3")
        if self.resize == "squash" and (self.crops != 1 or self.short_side is not None):
            raise VidsslError("resize='squash' shows the whole frame: it takes crops=1 and no short_side")
        if self.size < 1 or (self.short_side is not None and self.short_side < self.size):
            raise VidsslError(f"size={self.size}, short_side={self.short_side}: need 1 <= size <= short_side")

    @property
    def decoded_side(self) -> int:
        """Short side of the frames that the worker should hand over, so that crops are exact copies of pixels."""
        return self.short_side or self.size


@torch.no_grad()
def render_eval_views(batch: ClipBatch, spec: EvalSpec, mean: Triple, std: Triple) -> list[Tensor]:
    """Crop and normalise the evaluation clips of a batch on its device.

    Frames that already have their short side at `spec.decoded_side` (squash: that are already `size` x `size`), as
    `EvalClipDataset` delivers them, are cropped without touching a pixel value; others are resized (antialiased, bilinear).

    Returns:
        `clips_per_video * crops` tensors (B, 3, T, S, S), the crops of a clip next to each other.
    """
    rows = torch.arange(len(batch))
    flip = torch.zeros_like(rows, dtype=torch.bool)
    views = []
    for index in batch.index:
        for crop in range(spec.crops):
            shape = (len(batch), 3, index.shape[1], spec.size, spec.size)
            x = torch.empty(shape, device=batch.frames.device)
            crop_resize(batch.frames, rows, index, eval_box(batch.sizes, spec, crop), flip, x).div_(255)
            views.append(normalize_(x, mean, std))
    return views


def eval_box(sizes: Tensor, spec: EvalSpec, crop: int) -> Tensor:
    """(B, 2) true frame sizes -> (B, 4) int64 boxes top, left, height, width of crop number `crop`.

    The centre is rounded half to even, as torchvision's CenterCrop does.
    """
    if spec.resize == "squash":
        return torch.cat((torch.zeros_like(sizes), sizes), dim=1)
    short = sizes.amin(1)
    side = (short * (spec.size / spec.decoded_side)).round().long()
    room = sizes - side[:, None]
    offset = (room / 2).round().long()
    if spec.crops == 3 and crop != 1:
        along = sizes > short[:, None]  # a square frame has no long side: three equal crops
        offset = torch.where(along, room if crop == 2 else torch.zeros_like(room), offset)
    return torch.stack((offset[:, 0], offset[:, 1], side, side), dim=1)
