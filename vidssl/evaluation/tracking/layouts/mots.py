"""MOTS text files: masks of many objects, one a line, as COCO's run lengths."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.tables import read_lines
from vidssl.evaluation.tracking.sequence import Lazy, Mask

IGNORED = 10  # class of the regions that are not counted


def is_mots(file: Path) -> bool:
    """Whether a file is of lines ``frame id class height width runs``."""
    words = next((line.split() for line in read_lines(file) if line.strip()), [])
    return len(words) == 6 and "," not in words[0] and all(word.lstrip("-").isdigit() for word in words[:5])


def mots_masks(file: Path, count: int, size: tuple[int, int], *, named: bool = True) -> Lazy[Mask | None]:
    """Label maps of a MOTS text file, frames from 1; a frame without a line has an empty map.

    Args:
        count, size: number and (H, W) of the frames.
        named: False reads detections: ids, which may be -1 or stand twice, are not looked at, and a frame's masks are numbered from 1
            in the order of their lines; where two overlap the later one lies above.

    Raises:
        VidsslError: lines that are not of this kind, frames outside the sequence; when a map is read, runs that are damaged.
    """
    by_frame: dict[int, list[tuple[int, int, int, str]]] = {}
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        words = line.split()
        if not named and len(words) == 6:
            words[1] = "0"
        if len(words) != 6 or not all(word.isdigit() for word in words[:5]):
            raise VidsslError(f"{file}: line {number}: expected frame id class height width runs")
        frame, name, kind, height, width = map(int, words[:5])
        if not 1 <= frame <= count:
            raise VidsslError(f"{file}: line {number}: {count} frames, but a mask of frame {frame}")
        if size != (height, width):
            raise VidsslError(
                f"{file}: line {number}: a mask of {width} x {height} pixels, the frames have {size[1]} x {size[0]}"
            )
        if kind != IGNORED:
            rows = by_frame.setdefault(frame - 1, [])
            rows.append((name if named else len(rows) + 1, height, width, words[5]))

    def labels(index: int) -> Mask:
        mask = np.zeros(size, dtype=np.int64)
        for name, height, width, runs in by_frame.get(index, ()):
            mask[decode_runs(runs, height, width)] = name
        return mask

    return Lazy(count, labels)


def decode_runs(text: str, height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """COCO's compressed run lengths -> boolean (height, width).

    Runs of 0 and 1 take turns down the columns. A run is written in groups of five bits, lowest first, each as a character from
    "0" on, 32 added where more follow, the top bit of the last group the sign; from the fourth run on it is the difference to the
    run before the last.

    Raises:
        VidsslError: runs that do not fill the mask.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - 48
        if not 0 <= group < 64 or shift > 40:
            raise VidsslError(f"MOTS: runs {text[:20]!r}…: not COCO's compressed run lengths")
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            if group & 16:
                value -= 1 << shift
            runs.append(value + (runs[-2] if len(runs) > 2 else 0))
            value = shift = 0
    if min(runs, default=-1) < 0 or sum(runs) != height * width:
        raise VidsslError(f"MOTS: runs {text[:20]!r}… do not fill {width} x {height} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return flat.reshape(width, height).T
