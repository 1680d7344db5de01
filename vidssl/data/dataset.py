"""Map-style data sets: one video is opened and decoded once per sample, every view is cut from that one window.

A video that cannot be decoded never stops a run, whether the decoder says so or takes its process along. In training another video takes its place, chosen from
(seed, epoch, index, attempt) alone, and the failure travels with the batch so that the training process can count it
and write it down. In evaluation nothing is replaced: the row is marked failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.data.batch import Canvas, ClipBatch, ClipSample, collate_clips, room
from vidssl.data.clips import (
    ClipIndices,
    Times,
    Window,
    drop_frames,
    frame_period,
    random_window,
    uniform_clips,
    view_indices,
)
from vidssl.data.decode.open import Opener
from vidssl.data.decode.reader import DecodeError
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.order import Key
from vidssl.data.packing import only_needed, packed, shown
from vidssl.data.rng import Purpose, stream
from vidssl.data.videos import VideoDataset, Videos
from vidssl.data.views.crop import resize_short_side, squash, stays
from vidssl.data.views.draw import draw_view
from vidssl.data.views.evaluation import EvalSpec
from vidssl.data.views.spec import ViewSpec, expand_views
from vidssl.errors import VidsslError, check_value


class _Known(NamedTuple):
    """What is known of a sample before its file is opened.

    Attributes:
        clips: of its views. shape: number, height and width of the frames. place: where they are to be.
    """

    clips: list[ClipIndices]
    shape: tuple[int, int, int]
    place: Tensor | None = None


class ClipDataset(VideoDataset):
    """Training samples: a random window of a video with the frames and draws of all its views.

    Args:
        videos: the videos.
        views: what to cut from a window.
        window_seconds: length of the window; None for the whole video. Shorter videos are used whole.
        max_window_frames: cap on the source frames a window may span, because the decoder has to run through them.
        decode_size: frames are shrunk in the worker to a short side of at most this many pixels (bilinear,
            antialiased, aspect ratio kept); None keeps the source size. Frames longer than 4:1 are first cut to 4:1
            around their centre, so that one odd video cannot blow up the canvas of a whole batch.
        upsample: also enlarge smaller frames to `decode_size`.
        repeats: clips taken of a video in a row, each at a place and with draws of its own, for one opening of the file
            (see `GlobalBatchSampler`). Where the video is replaced, all of them are taken of the same other one.
        seed: of all draws.
        max_attempts: videos tried for one sample before giving up.
        deadline: seconds allowed for one video, None for no limit; kept by the loader, which ends a worker that takes
            longer. Nothing limits decoding in this process (`num_workers=0`).
        backend: decoder, see `open_video`.
        opener: how a path is opened instead of `open_video(path, backend)`.

    Raises:
        VidsslError: on an empty data set, no views, or a view longer than the window.
    """

    def __init__(
        self,
        videos: Videos,
        views: Sequence[ViewSpec],
        *,
        window_seconds: float | None = None,
        max_window_frames: int = 900,
        decode_size: int | None = 256,
        upsample: bool = False,
        repeats: int = 1,
        seed: int = 0,
        max_attempts: int = 10,
        deadline: float | None = 60.0,
        backend: str = "auto",
        opener: Opener | None = None,
    ) -> None:
        super().__init__(videos, deadline, backend, opener)
        if not views:
            raise VidsslError("views: at least one is needed")
        for spec in views:
            if window_seconds is not None and spec.seconds is not None and spec.seconds > window_seconds:
                raise VidsslError(
                    f"view {spec.name!r}: seconds={spec.seconds}: longer than the decoded window, {window_seconds} s"
                )
        check_value("max_window_frames", max_window_frames, max_window_frames >= 1, "at least 1")
        check_value("max_attempts", max_attempts, max_attempts >= 1, "at least 1")
        check_value("repeats", repeats, repeats >= 1, "at least 1")
        self.views, self.seed, self.max_attempts, self.repeats = (
            expand_views(views),
            seed,
            max_attempts,
            repeats,
        )
        self.window_seconds, self.max_window_frames = window_seconds or math.inf, max_window_frames
        self.decode_size, self.upsample = decode_size, upsample

    def __getitem__(self, key: Key) -> ClipSample:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: Sequence[Key]) -> list[ClipSample]:
        """The samples of some (visit, index). Neighbours of one video and epoch share its opening; each is what it is alone,
        except that only the first of them tells of videos that failed.

        Raises:
            VidsslError: if `max_attempts` videos in a row cannot be decoded; names the first one and its cause.
            MachineTroubleError: if a file cannot be read for a reason that is not its own.
        """
        rows = groupby(keys, key=lambda key: (key[0] // self.repeats, key[1]))
        return [sample for (epoch, index), row in rows for sample in self._taken(epoch, index, list(row))]

    def batch(self, keys: Sequence[Key], empty: Callable[..., Tensor] = room) -> ClipBatch:
        """`__getitems__`, put together: decoded to where they belong if time lines and sizes of all videos are known."""
        # Frames that are kept may be others than those of the file.
        is_plain = self.opener is self.plain and self.repeats == 1
        known = [self._known(key) for key in keys] if is_plain else [None]
        rows = [row for row in known if row is not None]
        if len(rows) < len(known):
            return super().batch(keys, empty)
        canvas = Canvas([row.shape for row in rows], empty)
        samples = []
        for i, (key, row) in enumerate(zip(keys, rows, strict=True)):
            samples += self._taken(*key, [key], row._replace(place=canvas.row(i)))
        return collate_clips(samples, empty, canvas)

    def _known(self, key: Key) -> _Known | None:
        """What a sample will hold, if its video has a time line and is neither cut nor made smaller."""
        video_id = key[1]
        try:
            timeline = self.videos.timeline(video_id)
        except DecodeError:  # known to be unreadable, or changed: where it is opened another takes its place
            return None
        if timeline is None or self.videos.part(video_id) is not None:
            return None
        height, width = timeline.info.height, timeline.info.width
        if self.decode_size is not None and not stays(height, width, self.decode_size, self.upsample):
            return None
        clips = self._clips(timeline.times, key)
        return _Known(clips, (len(shown(clips)), height, width))

    def _taken(
        self, epoch: int, index: int, keys: Sequence[Key], known: _Known | None = None
    ) -> list[ClipSample]:
        """The samples of keys of one video in one epoch."""
        failures: list[FailedVideo] = []
        for attempt in range(min(self.max_attempts, len(self.videos))):
            video_id = self._candidate(epoch, index, attempt, failures)
            try:
                known = known if attempt == 0 else None
                return self._watched(video_id, partial(self._samples, keys, video_id, failures, known))
            except DecodeError as error:
                failures.append(self._failure(video_id, error))
        first = failures[0]
        raise VidsslError(
            f"{first.path}: {first.reason}; and the {len(failures) - 1} videos tried in its place failed as well "
            f"(max_attempts={self.max_attempts})"
        )

    def _candidate(self, epoch: int, index: int, attempt: int, failures: Sequence[FailedVideo]) -> int:
        """The video itself, then videos drawn uniformly among those not tried yet."""
        if attempt == 0:
            return index
        rng = stream(self.seed, Purpose.SUBSTITUTE, epoch, index, attempt)
        choice = int(rng.integers(len(self.videos) - attempt))
        for tried in sorted(failure.video_id for failure in failures):
            choice += choice >= tried
        return choice

    def _samples(
        self, keys: Sequence[Key], video_id: int, failures: list[FailedVideo], known: _Known | None
    ) -> list[ClipSample]:
        def choose(times: Times) -> list[ClipIndices]:
            return known.clips if known else [clip for key in keys for clip in self._clips(times, key)]

        frames, clips = self._decode(video_id, choose, self._resize, known.place if known else None)
        height, width = frames.shape[1:3]
        samples = []
        for place, (visit, index) in enumerate(keys):
            own = clips[place * len(self.views) : (place + 1) * len(self.views)]
            draws = [
                draw_view(stream(self.seed, Purpose.SPACE, visit, index, number), spec, height, width)
                for number, spec in enumerate(self.views)
            ]
            told = failures if place == 0 else []
            samples.append(packed(*only_needed(frames, own), video_id, draws=draws, failures=told))
        return samples

    def _resize(self, frames: Tensor) -> Tensor:
        if self.decode_size is None:
            return frames
        return resize_short_side(frames, self.decode_size, self.upsample)

    def _clips(self, times: Times, key: Key) -> list[ClipIndices]:
        """The frames of every view of one sample."""
        period = frame_period(times)
        seconds = min(self.window_seconds, self.max_window_frames * period or math.inf)
        window = random_window(times, seconds, stream(self.seed, Purpose.WINDOW, *key), period)
        return [
            shown_frames(times, spec, stream(self.seed, Purpose.TIME, *key, number), window, period)
            for number, spec in enumerate(self.views)
        ]


class EvalClipDataset(VideoDataset):
    """Evaluation samples: the deterministic clips of every video, resized in the worker.

    Item i is video i. A video that cannot be decoded gives a black row with `failed` set and the reason in
    `failures`; it is never replaced. Arguments as in `ClipDataset`; `EvalSpec` says what is shown.
    """

    def __init__(
        self,
        videos: Videos,
        spec: EvalSpec,
        *,
        deadline: float | None = 60.0,
        backend: str = "auto",
        opener: Opener | None = None,
    ) -> None:
        super().__init__(videos, deadline, backend, opener)
        self.spec = spec

    def __getitem__(self, index: int) -> ClipSample:
        try:
            return self._watched(index, partial(self._sample, index))
        except DecodeError as error:
            spec = self.spec
            blank = [ClipIndices(np.zeros(spec.clip.frames, np.int64), np.zeros(spec.clip.frames))]
            black = torch.zeros((1, spec.decoded_side, spec.decoded_side, 3), dtype=torch.uint8)
            failures = [self._failure(index, error)]
            return packed(black, blank * spec.clips_per_video, index, failures=failures, failed=True)

    def _sample(self, index: int) -> ClipSample:
        spec = self.spec

        def choose(times: Times) -> list[ClipIndices]:
            clips = uniform_clips(times, spec.clip, spec.clips_per_video)
            return [ClipIndices(i, t) for i, t in zip(clips.indices, clips.times, strict=True)]

        def resize(frames: Tensor) -> Tensor:
            if spec.resize == "squash":
                return squash(frames, spec.size, spec.interpolation)
            return resize_short_side(frames, spec.decoded_side, True, spec.interpolation)

        frames, clips = self._decode(index, choose, resize)
        return packed(frames, clips, index)


def shown_frames(
    times: Times, spec: ViewSpec, rng: np.random.Generator, window: Window, period: float
) -> ClipIndices:
    """The frames of a view, in the order in which they are shown."""
    clip = view_indices(times, spec.clip, rng, window, period)
    if spec.drop_p:
        clip = drop_frames(clip, spec.drop_p, rng)
    if spec.reverse_p and rng.random() < spec.reverse_p:
        clip = ClipIndices(clip.indices[::-1].copy(), clip.times[::-1].copy())
    return clip
