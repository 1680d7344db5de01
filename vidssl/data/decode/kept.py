"""Videos whose frames stay in memory once they were decoded: for sets of small videos that are shown many times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.reader import VideoReader


class KeptVideos:
    """Opens videos; each is decoded in whole the first time, and never again.

    A video that cannot be decoded is not kept. Every decoding process keeps its own.

    Args:
        opener: opens a video the first time.
    """

    def __init__(self, opener: Callable[[Path], AbstractContextManager[VideoReader]]) -> None:
        self._opener = opener
        self._kept: dict[Path, _KeptVideo] = {}

    def __call__(self, path: Path) -> VideoReader:
        """The video at `path`.

        Raises:
            DecodeError: if a frame of it cannot be decoded.
        """
        if path not in self._kept:
            with self._opener(path) as video:
                self._kept[path] = _KeptVideo(video)
        return self._kept[path]


class _KeptVideo(VideoReader):
    """All frames of a video that was open."""

    def __init__(self, video: VideoReader) -> None:
        self.path, self.backend, self.info, self.times = video.path, video.backend, video.info, video.times
        self._frames = video.frames(np.arange(video.info.num_frames))

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._frames[wanted]

    def close(self) -> None:
        """Nothing is open."""
