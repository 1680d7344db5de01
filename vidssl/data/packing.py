"""A sample from decoded frames and the clips that show some of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidssl.data.batch import ClipSample
from vidssl.data.clips import ClipIndices


def shown(clips: Sequence[ClipIndices]) -> NDArray[np.int64]:
    """The frames that some clips show, in order."""
    return np.unique(np.concatenate([clip.indices for clip in clips]))


def only_needed(frames: Tensor, clips: Sequence[ClipIndices]) -> tuple[Tensor, list[ClipIndices]]:
    """The frames that some clips show, and the clips with indices into these."""
    needed = shown(clips)
    if len(needed) == len(frames):
        return frames, list(clips)
    chosen = [ClipIndices(np.searchsorted(needed, clip.indices), clip.times) for clip in clips]
    return frames[torch.from_numpy(needed)], chosen


def packed(frames: Tensor, clips: Sequence[ClipIndices], video_id: int, **fields: Any) -> ClipSample:
    """A sample of decoded frames and of the clips that show some of them."""
    return ClipSample(
        frames=frames,
        index=[torch.from_numpy(clip.indices) for clip in clips],
        times=[torch.from_numpy(clip.times).float() for clip in clips],
        video_id=video_id,
        **fields,
    )
