"""Which frames: from timestamps and a clip specification to frame indices. Pure functions, no video is touched.

A frame is on show from its timestamp until the next one, so a video lasts from the first timestamp to the last one
plus one frame period (the median gap). A clip of T frames over `seconds` takes the frames nearest to the centres of
T equal segments; timestamps, not frame numbers, decide, so videos with a variable frame rate are treated right.

Videos shorter than the clip never fail and never wrap around:
- `seconds`: the T instants are spread over what exists (frames repeat when there are fewer than T);
- `stride`: frames follow at the stride and the last one is held.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_value

Times = NDArray[np.float64]


@dataclass(frozen=True)
class ClipSpec:
    """T frames, either `stride` frames apart or spread evenly over `seconds` (exactly one of the two).

    Args:
        frames: T, the number of frames.
        stride: distance in frames between neighbours.
        seconds: temporal extent of the clip; `math.inf` means the whole video.
    """

    frames: int
    stride: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        check_value("clip frames", self.frames, self.frames >= 1, "at least 1")
        if (self.stride is None) == (self.seconds is None):
            raise VidsslError(
                f"clip stride={self.stride}, seconds={self.seconds}: give exactly one of stride and seconds"
            )
        check_value("clip stride", self.stride, self.stride is None or self.stride >= 1, "at least 1 frame")
        is_long = self.seconds is None or self.seconds > 0
        check_value("clip seconds", self.seconds, is_long, "positive (inf for the whole video)")


class ClipIndices(NamedTuple):
    """Chosen frames, int64, and their timestamps in seconds, float64; both (T,) or (num_clips, T), ascending in T."""

    indices: NDArray[np.int64]
    times: Times


class Window(NamedTuple):
    """A part of a video, in seconds: frames with start <= timestamp < stop."""

    start: float
    stop: float


def frame_period(times: Times) -> float:
    """Median gap between neighbouring frames in seconds; 0 for a single frame."""
    return float(np.median(np.diff(times))) if len(times) > 1 else 0.0


def whole(times: Times, period: float | None = None) -> Window:
    """The window that holds all of a video with timestamps (num_frames,) in seconds, ascending; `period` as in `view_indices`.

    Raises:
        VidsslError: if there is no frame.
    """
    if times.ndim != 1 or len(times) == 0:
        raise VidsslError(f"timestamps of shape {times.shape}: need (num_frames,) with at least one frame")
    return Window(float(times[0]), float(times[-1]) + (frame_period(times) if period is None else period))


def random_window(
    times: Times, seconds: float, rng: np.random.Generator, period: float | None = None
) -> Window:
    """A window of `seconds`, uniform over where it fits; the whole video if it never does. `period` as in `view_indices`."""
    start, stop = whole(times, period)
    begin = start + float(rng.random()) * max(0.0, stop - start - seconds)
    return Window(begin, min(begin + seconds, stop))


def view_indices(
    times: Times,
    spec: ClipSpec,
    rng: np.random.Generator,
    window: Window | None = None,
    period: float | None = None,
) -> ClipIndices:
    """Frames of a clip cut at a uniformly random place inside a window.

    Args:
        times: (num_frames,) timestamps in seconds, ascending.
        spec: the clip; when it is longer than the window it is fitted as the module docstring says.
        window: the part to stay in; None for the whole video.
        period: `frame_period` of the video where it is known: of a long one it takes time.

    Returns:
        (T,) indices into `times`, ascending, and their timestamps.
    """
    period = frame_period(times) if period is None else period
    window = window or whole(times, period)
    first, last = _frames_inside(times, window)
    if spec.stride is not None:
        room = last - first + 1 - _extent(spec.frames, spec.stride)
        start = first + int(rng.integers(0, max(room, 0) + 1))
        indices = _strided(start, spec.frames, spec.stride, last)
    else:
        seconds = min(spec.seconds or math.inf, window.stop - window.start)
        begin = window.start + float(rng.random()) * (window.stop - window.start - seconds)
        indices = _spread(times, begin, seconds, spec.frames, period).clip(first, last)
    return ClipIndices(indices, times[indices])


def drop_frames(clip: ClipIndices, chance: float, rng: np.random.Generator) -> ClipIndices:
    """A clip (T,) of which each frame but the first is lost by this chance: the one before it stays on show."""
    lost = rng.random(len(clip.indices)) < chance
    lost[0] = False
    shown = np.maximum.accumulate(np.where(lost, 0, np.arange(len(lost))))
    return ClipIndices(clip.indices[shown], clip.times[shown])


def uniform_clips(times: Times, spec: ClipSpec, num_clips: int) -> ClipIndices:
    """Deterministic clips for evaluation, centred in `num_clips` equal segments of the video (one clip: centred).

    A clip that would stick out is pushed inside; clips overlap when they are longer than a segment.

    Returns:
        (num_clips, T) indices into `times` and their timestamps.

    Raises:
        VidsslError: if num_clips < 1.
    """
    check_value("num_clips", num_clips, num_clips >= 1, "at least 1")
    period = frame_period(times)
    start, stop = whole(times, period)
    centres = (np.arange(num_clips) + 0.5) / num_clips
    rows: list[NDArray[np.int64]] = []
    for centre in centres:
        if spec.stride is not None:
            extent = _extent(spec.frames, spec.stride)
            room = max(len(times) - extent, 0)
            begin = math.floor(centre * len(times) - extent / 2 + 0.5)
            rows.append(_strided(min(max(begin, 0), room), spec.frames, spec.stride, len(times) - 1))
        else:
            seconds = min(spec.seconds or math.inf, stop - start)
            left = start + centre * (stop - start) - seconds / 2
            rows.append(_spread(times, min(max(left, start), stop - seconds), seconds, spec.frames, period))
    indices = np.stack(rows)
    return ClipIndices(indices, times[indices])


def _extent(frames: int, stride: int) -> int:
    """Frames from the first to the last of a strided clip, both counted."""
    return (frames - 1) * stride + 1


def _strided(start: int, frames: int, stride: int, last: int) -> NDArray[np.int64]:
    return np.minimum(start + stride * np.arange(frames, dtype=np.int64), last)


def _spread(times: Times, start: float, seconds: float, frames: int, period: float) -> NDArray[np.int64]:
    """Frames nearest to the centres of equal segments of [start, start + seconds).

    A frame stands for the period that follows its timestamp, so its own centre lies half a period after it; without
    that shift a clip of as many frames as the video would fall on ties between neighbours.
    """
    instants = start + (np.arange(frames) + 0.5) * (seconds / frames) - period / 2
    after = np.searchsorted(times, instants).clip(0, len(times) - 1)
    before = (after - 1).clip(0)
    # Ties go to the earlier frame; the slack keeps rounding from deciding them.
    earlier = instants - times[before] <= times[after] - instants + 1e-6 * period
    return np.where(earlier, before, after).astype(np.int64)


def _frames_inside(times: Times, window: Window) -> tuple[int, int]:
    """First and last frame of a window; the nearest frame twice when the window falls into a gap."""
    first = int(np.searchsorted(times, window.start, side="left"))
    last = int(np.searchsorted(times, window.stop, side="left")) - 1
    if last < first:
        first = last = min(max(last, 0), len(times) - 1)
    return first, last
