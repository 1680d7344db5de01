"""A part of a video as a video of its own: a segment of a file is a sample like any other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.reader import DecodeError, Indices, VideoReader

SLACK = 1e-6  # seconds by which a written time may miss the time stamp that it means


class Part(NamedTuple):
    """Which part of a video a sample is, in seconds since its first frame: the frames with start <= time stamp < stop.

    Where no time stamp lies between them, it is the one frame on show at `start`.
    """

    start: float = 0.0
    stop: float = math.inf

    def __str__(self) -> str:
        """``#t=12.5,20`` or ``#t=12.5``, as the temporal dimension of a media fragment is written (W3C 2012)."""
        return f"#t={_text(self.start)}" + ("" if math.isinf(self.stop) else f",{_text(self.stop)}")

    def begins_after(self, duration: float) -> bool:
        """Whether a video of so many seconds has ended when the part begins."""
        return self.start >= duration - SLACK

    def complaint(self, duration: float) -> str:
        """What is said of a part that `begins_after` so many seconds."""
        return f"the part begins at {self.start:g} s, but the video ends at {duration:g} s"


class PartReader(VideoReader):
    """A part of an open video, which stays open when this is closed.

    Raises:
        DecodeError: the part begins after the end of the video.
    """

    def __init__(self, video: VideoReader, part: Part) -> None:
        self.path, self.backend, self._video = video.path, video.backend, video
        first, stop = np.searchsorted(video.times, np.array(part) - SLACK).tolist()
        if first == stop:  # between two frames
            first = max(first - 1, 0)
            stop = first + 1
        if part.begins_after(video.info.duration):
            raise DecodeError(video.path, "auto", part.complaint(video.info.duration))
        self._first = first
        self.times = video.times[first:stop] - video.times[first]
        end = video.times[stop] if stop < len(video.times) else video.info.duration
        self.info = replace(video.info, num_frames=stop - first, duration=float(end - video.times[first]))

    def each(self, indices: Indices) -> Iterator[NDArray[np.uint8]]:
        """See `VideoReader`."""
        return self._video.each(np.asarray(indices, dtype=np.int64) + self._first)

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._video.frames(wanted + self._first)

    def close(self) -> None:
        """What was opened elsewhere is closed there."""


def _text(seconds: float) -> str:
    """The shortest text that is read as the same number."""
    return repr(seconds).removesuffix(".0")
