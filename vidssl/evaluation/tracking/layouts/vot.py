"""Truth of VOT2020 and later: one object's mask a line, as run lengths in a window of the frame."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.tables import Rows, read_lines
from vidssl.evaluation.tracking.sequence import Lazy, Mask

EXPECTED = "expected m and whole numbers: left, top, width, height, run lengths, beginning with zeros"


def is_vot_masks(file: Path) -> bool:
    """Whether a file is of lines ``m<left>,<top>,<width>,<height>,<runs…>``."""
    return next((line for line in read_lines(file) if line.strip()), "").startswith("m")


def vot_masks(file: Path, count: int, size: tuple[int, int]) -> tuple[Lazy[Mask | None], Rows]:
    """Masks of one object (1), one a line, and the upright boxes round them; a single line is the mask to start from.

    Runs of 0 and 1 take turns along the rows of the window; pixels after the last run are 0, and what lies outside the frame is cut off.

    Args:
        count, size: number and (H, W) of the frames.

    Returns:
        T label maps, None behind a single line; and (T, 4) boxes x,y,w,h, NaN where nothing of the object is seen or known.

    Raises:
        VidsslError: a line that is not of this kind, or a window larger than the frame, or runs larger than their window.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(file), start=1) if line.strip()]
    windows = [_Window.read(f"{file}: line {number}", line.strip(), size) for number, line in lines]

    def labels(index: int) -> Mask | None:
        if index >= len(windows):
            return None
        mask = np.zeros(size, dtype=np.int64)
        y, x, seen = windows[index].seen(size)
        mask[y : y + seen.shape[0], x : x + seen.shape[1]] = seen
        return mask

    length = count if len(windows) == 1 else len(windows)
    boxes = np.full((length, 4), np.nan)
    boxes[: len(windows)] = [window.box(size) for window in windows]
    return Lazy(length, labels), boxes


class _Window(NamedTuple):
    left: int
    top: int
    width: int
    height: int
    runs: NDArray[np.int64]

    @classmethod
    def read(cls, where: str, line: str, size: tuple[int, int]) -> _Window:
        try:
            left, top, width, height, *runs = map(
                int, line[1:].strip(", ").split(",") if line[0] == "m" else ()
            )
        except ValueError:
            raise VidsslError(f"{where}: {line[:40]!r}: {EXPECTED}") from None
        if not (0 <= width <= size[1] and 0 <= height <= size[0]):
            raise VidsslError(
                f"{where}: a mask of {width} x {height} pixels, the frames have {size[1]} x {size[0]}"
            )
        if min(runs, default=0) < 0 or sum(runs) > width * height:
            raise VidsslError(f"{where}: runs that do not fit into {width} x {height} pixels")
        return cls(left, top, width, height, np.array(runs, dtype=np.int64))

    def seen(self, size: tuple[int, int]) -> tuple[int, int, NDArray[np.bool_]]:
        """First row and column, and what of the mask lies inside frames of `size`."""
        flat = np.zeros(self.width * self.height, dtype=np.bool_)
        ones = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        flat[: len(ones)] = ones
        mask = flat.reshape(self.height, self.width)
        rows = slice(max(-self.top, 0), max(size[0] - self.top, 0))
        columns = slice(max(-self.left, 0), max(size[1] - self.left, 0))
        return max(self.top, 0), max(self.left, 0), mask[rows, columns]

    def box(self, size: tuple[int, int]) -> tuple[float, float, float, float]:
        """The upright box round what is seen, NaN where nothing is."""
        top, left, seen = self.seen(size)
        y, x = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
        if not y.size:
            return (np.nan,) * 4
        return left + x[0], top + y[0], x[-1] + 1 - x[0], y[-1] + 1 - y[0]
