"""Into which pieces a long video is split: windows of equal length, or shots."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.reader import VideoReader
from vidssl.errors import check_value

SIDE = 32  # pixels of the pictures in which cuts are looked for
CHANGE = 12.0  # of 255: mean difference of two neighbouring pictures that may be a cut ...
CONTRAST = 4.0  # ... if it is so many times that of the frames around, as no motion of a camera is
AROUND = 8  # frames on either side
SHORTEST = 1.0  # seconds of a shot; of cuts closer together the later ones are none

Piece = tuple[int, int]  # first frame, and the one after the last


@dataclass(frozen=True)
class Split:
    """How videos are split.

    Args:
        shots: at cuts. windows: seconds of equal parts, the last one up to half as long again; None for none. With both,
            every shot is split into windows.

    Raises:
        VidsslError: windows is not positive.
    """

    shots: bool = False
    windows: float | None = None

    def __post_init__(self) -> None:
        check_value("windows", self.windows, self.windows is None or self.windows > 0, "above 0 seconds")

    def pieces(self, video: VideoReader) -> list[Piece]:
        """Pieces that hold every frame once, in order."""
        count, times = len(video.times), video.times
        bounds = [0, *(cuts(video) if self.shots else []), count]
        ends = np.append(times, video.info.duration)
        pieces: list[Piece] = []
        for first, stop in pairwise(bounds):
            inner = _windows(ends[first : stop + 1], self.windows) if self.windows else []
            edges = [first, *(first + place for place in inner), stop]
            pieces += pairwise(edges)
        return pieces


def cuts(video: VideoReader) -> list[int]:
    """First frames of all shots but the first, of which each lasts at least `SHORTEST` seconds."""
    changes = frame_changes(video.each(np.arange(len(video.times))))
    found, last = [], 0.0
    for place in cut_places(changes):
        if video.times[place] - last >= SHORTEST and video.info.duration - video.times[place] >= SHORTEST:
            found.append(place)
            last = float(video.times[place])
    return found


def frame_changes(frames: Iterable[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Mean absolute difference of small pictures of each frame and the one before it; 0 for the first."""
    changes, before = [], None
    for frame in frames:
        small = _small(frame)
        changes.append(0.0 if before is None else float(np.abs(small - before).mean()))
        before = small
    return np.array(changes)


def cut_places(changes: NDArray[np.float64]) -> list[int]:
    """Frames whose change stands out: above `CHANGE`, the largest around, and `CONTRAST` times the mean of the others."""
    found = []
    for place in np.flatnonzero(changes > CHANGE).tolist():
        around = changes[max(place - AROUND, 1) : place + AROUND + 1]
        others = (around.sum() - changes[place]) / max(len(around) - 1, 1)
        if changes[place] == around.max() and changes[place] > CONTRAST * others:
            found.append(place)
    return found


def _small(frame: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Means over a grid of at most SIDE x SIDE cells."""
    rows, columns = (
        np.linspace(0, side, min(SIDE, side), endpoint=False).astype(int) for side in frame.shape[:2]
    )
    sums = np.add.reduceat(np.add.reduceat(frame, rows, axis=0, dtype=np.int64), columns, axis=1)
    area = (
        np.diff(np.append(rows, frame.shape[0]))[:, None] * np.diff(np.append(columns, frame.shape[1]))[None]
    )
    return np.asarray(sums / area[..., None])


def _windows(ends: NDArray[np.float64], seconds: float) -> list[int]:
    """Where windows begin, but for the first, in a part whose frames begin (and which ends) at these times."""
    count = max(int((ends[-1] - ends[0]) / seconds + 0.5), 1)
    starts = ends[0] + seconds * np.arange(1, count)
    return sorted({int(place) for place in np.searchsorted(ends[:-1], starts - 1e-6)} - {0, len(ends) - 1})
