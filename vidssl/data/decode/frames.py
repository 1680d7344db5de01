"""From a path to the uint8 frames that a sample needs: one open, one ascending decode call, one resize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from vidssl.data.clips import ClipIndices, Times
from vidssl.data.decode.deadline import decode_deadline
from vidssl.data.decode.reader import DecodeError

MAX_ASPECT = 4  # long side over short side; the rest is cut off at both ends before resizing


class Reader(Protocol):
    """An open video, as `open_video` gives it."""

    @property
    def times(self) -> Times: ...
    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]: ...


Opener = Callable[[Path], AbstractContextManager[Reader]]


def decode_clips(
    opener: Opener, path: Path, choose: Callable[[Times], Sequence[ClipIndices]], deadline: float | None
) -> tuple[Tensor, list[ClipIndices]]:
    """Decode the union of the clips that `choose` picks from the timestamps, each frame once, in ascending order.

    Returns:
        (N, h, w, 3) uint8 frames, and the clips with indices into N.

    Raises:
        DecodeError: if the video cannot be decoded, is empty, or takes longer than `deadline` seconds.
    """
    with decode_deadline(deadline, path), opener(path) as reader:
        if len(reader.times) == 0:
            raise DecodeError(path, "auto", "the video has no frames")
        clips = choose(reader.times)
        needed = np.unique(np.concatenate([clip.indices for clip in clips]))
        frames = torch.from_numpy(reader.frames(needed))
    if frames.shape[0] != len(needed) or min(frames.shape) == 0:
        reason = f"asked for {len(needed)} frames, got an array of shape {tuple(frames.shape)}"
        raise DecodeError(path, "auto", reason)
    return frames, [ClipIndices(np.searchsorted(needed, clip.indices), clip.times) for clip in clips]


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
