"""Whole frames of videos, one video after the other: no squashing, no crop, no padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.views.evaluation import EvalSpec


@dataclass(frozen=True)
class WholeVideo:
    """Some frames of a video.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB; black where it failed. times: (T,) seconds since the first frame of the video.
        failure: why it cannot be shown, None where it can.
    """

    frames: Tensor
    times: Tensor
    failure: FailedVideo | None

    @property
    def shown(self) -> Tensor:
        """(T, 3, H, W) float32 in [0, 1], as `PatchFeatures` takes them."""
        return rearrange(self.frames, "t h w c -> t c h w").float() / 255


def whole_videos(
    index: VideoIndex, clip: ClipSpec, short_side: int, *, workers: int = 0, backend: str = "auto"
) -> Iterator[WholeVideo]:
    """The videos of an index in its order, none left out.

    Args:
        index: the videos.
        clip: which frames of each; one that would be shown twice, as of a video that is too short, comes once.
        short_side: of the frames, in pixels; the aspect ratio is kept (frames longer than 4:1 are cut to that).
        workers: decoding processes; 0 decodes in this one.
        backend: decoder, as in `vidssl.data.decode.open_video`.
    """
    dataset = EvalClipDataset(index, EvalSpec(clip, size=short_side, resize="crop"), backend=backend)
    for batch in build_eval_loader(dataset, 1, num_workers=workers):
        [places], [times] = batch.index[0].numpy(), batch.times[0]
        _, first = np.unique(places, return_index=True)
        failure = batch.failures[0] if bool(batch.failed[0]) else None
        yield WholeVideo(batch.frames[0], times[torch.from_numpy(first)], failure)
