"""Whole videos with several draws of a view of each, for features that are computed once and kept."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch

from vidssl.data.batch import ClipSample
from vidssl.data.clips import ClipIndices, ClipSpec, Times, uniform_clips, whole
from vidssl.data.decode.reader import DecodeError
from vidssl.data.packing import packed
from vidssl.data.rng import Purpose, stream
from vidssl.data.videos import VideoDataset, Videos
from vidssl.data.views.draw import draw_view
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import check_value


class DrawnDataset(VideoDataset):
    """Item i: frames of video i, evenly spaced over all of it and as large as they are, with `view.count` draws of a view.

    One that cannot be decoded is black and `failed`, with the reason in `failures`; it is never replaced.

    Args:
        videos: the videos.
        view: what is drawn; its `frames` are those of a video.
        rate: frames a second instead, at least one frame.
        seed: of the draws, each a function of it, the video's place and the draw's number.
        backend: decoder, see `open_video`.
    """

    def __init__(
        self,
        videos: Videos,
        view: ViewSpec,
        *,
        rate: float | None = None,
        seed: int = 0,
        backend: str = "auto",
    ) -> None:
        super().__init__(videos, 60.0, backend, None)
        check_value("rate", rate, rate is None or 0 < rate < math.inf, "above 0")
        self.view, self.rate, self.seed = view, rate, seed

    def __getitem__(self, index: int) -> ClipSample:
        try:
            return self._watched(index, partial(self._sample, index))
        except DecodeError as error:
            black = torch.zeros((1, 1, 1, 3), dtype=torch.uint8)
            blank = [ClipIndices(np.zeros(1, np.int64), np.zeros(1))] * self.view.count
            return packed(black, blank, index, failures=[self._failure(index, error)], failed=True)

    def _sample(self, index: int) -> ClipSample:
        frames, clips = self._decode(index, self._clip)
        height, width = frames.shape[1:3]
        draws = [
            draw_view(stream(self.seed, Purpose.SPACE, 0, index, number), self.view, height, width)
            for number in range(self.view.count)
        ]
        return packed(frames, clips * self.view.count, index, draws=draws)

    def _clip(self, times: Times) -> list[ClipIndices]:
        frames = self.view.frames
        if self.rate is not None:
            start, stop = whole(times)
            frames = max(1, round((stop - start) * self.rate))
        clip = uniform_clips(times, ClipSpec(frames, seconds=math.inf), 1)
        return [ClipIndices(clip.indices[0], clip.times[0])]
