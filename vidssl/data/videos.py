"""The videos of a data set, and how one of them is opened, decoded and, where that fails, told of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vidssl.data.batch import ClipBatch, ClipSample, collate_clips, room
from vidssl.data.clips import ClipIndices, Times
from vidssl.data.decode.open import Opener, open_video
from vidssl.data.decode.part import Part, PartReader
from vidssl.data.decode.reader import DecodeError, VideoReader
from vidssl.data.decode.timeline import Timeline
from vidssl.data.decode.trouble import patiently
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError

T = TypeVar("T")

LARGE = 2**20  # bytes of a frame from which on many of them are more than caches hold


class Videos(Protocol):
    """The videos of a data set, e.g. a `VideoIndex`."""

    @property
    def paths(self) -> Sequence[str]:
        """What the folder or list calls them."""

    def __len__(self) -> int: ...
    def path(self, i: int) -> Path: ...
    def part(self, i: int) -> Part | None: ...
    def timeline(self, i: int) -> Timeline | None: ...


class VideoDataset(Dataset[ClipSample]):
    """Videos and how they are opened.

    Attributes:
        opener, plain: how videos are opened, and how they would be if nothing was kept.
        failed: video_id -> reason, of videos that are not tried (again): each has ended or held up its process.
        announce: told which video is about to be opened, and None when it is closed again.
    """

    def __init__(self, videos: Videos, deadline: float | None, backend: str, opener: Opener | None) -> None:
        if len(videos) == 0:
            raise VidsslError("the data set has no videos")
        self.videos, self.deadline, self.backend = videos, deadline, backend
        self.plain: Opener = partial(open_video, backend=backend)
        self.opener: Opener = opener or self.plain
        self.failed: dict[int, str] = {}
        self.announce: Callable[[int | None], None] = lambda video_id: None

    def __len__(self) -> int:
        return len(self.videos)

    def __getitems__(self, keys: Sequence[Any]) -> list[ClipSample]:
        """The samples of a batch, as PyTorch's own loader would ask for them."""
        return [self[key] for key in keys]

    def batch(self, keys: Sequence[Any], empty: Callable[..., Tensor] = room) -> ClipBatch:
        """The samples of a batch, put together; `empty` makes the memory of their frames."""
        return collate_clips(self.__getitems__(keys), empty)

    def _decode(
        self,
        video_id: int,
        choose: Callable[[Times], Sequence[ClipIndices]],
        resize: Callable[[Tensor], Tensor] = lambda frames: frames,
        place: Tensor | None = None,
    ) -> tuple[Tensor, list[ClipIndices]]:
        """Decode the union of the clips that `choose` picks from the timestamps, each frame once, in ascending order.

        Args:
            resize: what is done to all frames, to each alone.
            place: where frames that stay as they are shall be, (N, h, w, 3); anywhere by default.

        Returns:
            (N, h, w, 3) uint8 frames as resized, and the clips with indices into N.

        Raises:
            DecodeError: if the video cannot be decoded, is empty, or is among those that failed.
        """
        path = self.videos.path(video_id)
        if video_id in self.failed:
            raise DecodeError(path, self.backend, self.failed[video_id])
        part = self.videos.part(video_id)
        with self.opener(path, timeline=self.videos.timeline(video_id)) as opened:
            reader = opened if part is None else PartReader(opened, part)
            if len(reader.times) == 0:
                raise DecodeError(path, "auto", "the video has no frames")
            clips = choose(reader.times)
            needed = np.unique(np.concatenate([clip.indices for clip in clips]))
            if place is None:
                frames = _resized(reader, needed, resize, path)
            else:
                frames = place
                reader.frames_into(needed, place.numpy())
        return frames, [ClipIndices(np.searchsorted(needed, clip.indices), clip.times) for clip in clips]

    def _watched(self, video_id: int, make: Callable[[], T]) -> T:
        """`make()` of a video's samples, tried again while the machine is in trouble."""

        def announced() -> T:
            self.announce(video_id)
            try:
                return make()
            finally:
                self.announce(None)

        return patiently(announced, self.videos.path(video_id))

    def _failure(self, video_id: int, error: DecodeError) -> FailedVideo:
        reason = " ".join(str(error.reason).split())
        name = f"{self.videos.path(video_id)}{self.videos.part(video_id) or ''}"
        return FailedVideo(video_id, name, reason, decoder=error.backend)


def _resized(
    reader: VideoReader, needed: NDArray[np.int64], resize: Callable[[Tensor], Tensor], path: Path
) -> Tensor:
    """The frames at `needed`; large ones are resized one by one as they come, while the processor has them at hand."""
    if isinstance(reader, VideoReader) and reader.info.height * reader.info.width * 3 > LARGE:
        return torch.cat([resize(torch.from_numpy(frame)[None]) for frame in reader.each(needed)])
    frames = torch.from_numpy(reader.frames(needed))
    if frames.shape[0] != len(needed) or min(frames.shape) == 0:
        reason = f"asked for {len(needed)} frames, got an array of shape {tuple(frames.shape)}"
        raise DecodeError(path, "auto", reason)
    return resize(frames)
