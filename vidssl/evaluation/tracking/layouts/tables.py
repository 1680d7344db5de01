"""Text files of boxes, tracks, detections and key points, as arrays of numbers."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError

Rows = NDArray[np.float64]
JOINTS = 1000  # of a figure, at most
# Of MOT16, MOT17 and MOT20: someone on foot; someone on a vehicle, standing still, what looks like a person, a reflection; in
# MOT20 vehicles without a motor too.
CLASSES, PERSON = 13, 1
DISTRACTORS, OF_MOT20 = frozenset({2, 7, 8, 12}), frozenset({6})
_SEPARATOR = re.compile(r"[,;\s]+")


def read_rows(file: Path) -> list[list[float]]:
    """Numbers of a text file, one list a line, separated by commas, tabs, spaces or semicolons; empty lines are left out.

    Raises:
        VidsslError: naming the line that is not of numbers.
    """
    rows = []
    for number, line in enumerate(read_lines(file), start=1):
        if not line.strip():
            continue
        try:
            rows.append([float(word) for word in _SEPARATOR.split(line.strip(" \t\r,;"))])
        except ValueError:
            raise VidsslError(f"{file}: line {number}: {line.strip()[:60]!r}: expected numbers") from None
    return rows


def read_lines(file: Path) -> list[str]:
    """The lines of a text file.

    Raises:
        VidsslError: a file that cannot be read, or is not text.
    """
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise VidsslError(f"{file}: not readable as text ({error})") from error


def read_boxes(file: Path) -> tuple[Rows, Rows | None]:
    """Boxes of one object, one a line: x,y,w,h, or x1,y1,…,x4,y4.

    Returns:
        (T, 4) boxes, and of four corners those too, (T, 8); the box of four corners is the upright one round them. A box
        that is not finite, or of no area, is NaN: the object cannot be seen.

    Raises:
        VidsslError: an empty file, or lines of another number of values.
    """
    rows = read_rows(file)
    if not rows:
        raise VidsslError(f"{file}: no boxes")
    width = len(rows[0])
    odd = next((i for i, row in enumerate(rows, start=1) if len(row) != width), None)
    if width not in (4, 8) or odd:
        line = odd or 1
        raise VidsslError(
            f"{file}: line {line} has {len(rows[line - 1])} numbers; expected x,y,w,h or four corners"
        )
    values = np.array(rows, dtype=np.float64)
    corners = None
    if width == 8:
        corners = values
        x, y = corners[:, 0::2], corners[:, 1::2]
        left, top = x.min(1), y.min(1)
        values = np.stack([left, top, x.max(1) - left, y.max(1) - top], axis=1)
    unseen = np.logical_not(np.isfinite(values).all(1)) | (values[:, 2:] <= 0).any(1)
    return np.where(unseen[:, None], np.nan, values), corners


def read_objects(file: Path) -> Rows:
    """MOTChallenge truth ``frame,id,x,y,w,h[,counted,…]``, frames from 1 -> (N, 6), frames from 0, sorted by frame and id.

    Rows whose seventh number is 0 are not counted (people behind glass, other classes) and left out, and so are those of another class
    than people where classes are given, see `read_others`.

    Raises:
        VidsslError: fewer than six numbers in a line, numbers that are not finite, an id twice in a frame, or a class that there is not.
    """
    rows = _wide(file, 6)
    classes = _classes(file, rows) or [PERSON] * len(rows)
    kept = [row[:6] for row, kind in zip(rows, classes, strict=True) if _counts(row, kind)]
    table = np.array(kept, dtype=np.float64).reshape(-1, 6)
    table[:, 0] -= 1
    table = table[np.lexsort((table[:, 1], table[:, 0]))]
    twice = np.flatnonzero((np.diff(table[:, :2], axis=0) == 0).all(1))
    if twice.size:
        frame, name = table[twice[0], :2]
        raise VidsslError(f"{file}: id {name:.0f} stands twice in frame {frame + 1:.0f}")
    return table


def read_others(file: Path, distractors: frozenset[int] = DISTRACTORS) -> Rows | None:
    """What stands in MOTChallenge truth beside what is counted, where classes are given (MOT16, MOT17, MOT20: nine numbers a
    row, the eighth the class): (K, 6) rows (frame from 0, x, y, w, h, 1 for a distractor else 0); None without classes.

    Args:
        distractors: classes on which tracks are neither right nor wrong.

    Raises:
        VidsslError: as `read_objects`.
    """
    rows = _wide(file, 6)
    classes = _classes(file, rows)
    if classes is None:
        return None
    pairs = zip(rows, classes, strict=True)
    table = [
        [row[0] - 1, *row[2:6], float(kind in distractors)] for row, kind in pairs if not _counts(row, kind)
    ]
    return np.array(table, dtype=np.float64).reshape(-1, 6)


def _counts(row: list[float], kind: float) -> bool:
    return kind == PERSON and (len(row) < 7 or row[6] != 0)


def _classes(file: Path, rows: list[list[float]]) -> list[float] | None:
    if not rows or any(len(row) != 9 for row in rows) or all(row[7] == -1 for row in rows):
        return None
    odd = next((i for i, row in enumerate(rows) if row[7] not in range(1, CLASSES + 1)), None)
    if odd is not None:
        raise VidsslError(
            f"{file}: row {odd + 1}: class {rows[odd][7]:g}; must be a whole number from 1 to {CLASSES}, or -1 in all rows"
        )
    return [row[7] for row in rows]


def read_detections(file: Path) -> Rows:
    """MOTChallenge detections ``frame,-1,x,y,w,h[,score,…]``, frames from 1 -> (M, 6) of frame (from 0), x, y, w, h, score (1 where not given).

    Raises:
        VidsslError: fewer than six numbers in a line, or numbers that are not finite.
    """
    rows = [[row[0] - 1, *row[2:6], row[6] if len(row) > 6 else 1.0] for row in _wide(file, 6)]
    table = np.array(rows, dtype=np.float64).reshape(-1, 6)
    return table[np.argsort(table[:, 0], kind="stable")]


def _wide(file: Path, least: int) -> list[list[float]]:
    rows = read_rows(file)
    for number, row in enumerate(rows, start=1):
        if len(row) < least:
            raise VidsslError(f"{file}: row {number} has {len(row)} numbers; expected frame,id,x,y,w,h")
        if not all(map(math.isfinite, row[:least])):
            raise VidsslError(f"{file}: row {number} has a number that is not finite")
        if row[0] != round(row[0]):
            raise VidsslError(f"{file}: row {number}: frame {row[0]:g}; must be a whole number")
    return rows


def read_keypoints(file: Path, count: int) -> dict[int, Rows]:
    """``frame,id,joint,x,y`` with a header, frames from 0 -> id of a figure -> (count, J, 2), (-1, -1) where hidden or not given.

    Raises:
        VidsslError: another header, lines that are not numbers, frames outside the sequence.
    """
    header, *lines = [*csv.reader(read_lines(file))] or [[]]
    if header != ["frame", "id", "joint", "x", "y"]:
        raise VidsslError(f"{file}: header {','.join(header)!r}; expected frame,id,joint,x,y")
    try:
        rows = [(int(f), int(i), int(j), float(x), float(y)) for f, i, j, x, y in lines]
    except ValueError as error:
        raise VidsslError(f"{file}: a line that is not five numbers ({error})") from None
    outside = next((row[0] for row in rows if not 0 <= row[0] < count), None)
    if outside is not None:
        raise VidsslError(f"{file}: {count} frames, but key points of frame {outside}")
    odd = next((row[2] for row in rows if not 0 <= row[2] < JOINTS), None)
    if odd is not None:
        raise VidsslError(f"{file}: joint {odd}; must be from 0 to {JOINTS - 1}")
    joints = 1 + max((row[2] for row in rows), default=-1)
    points: dict[int, Rows] = {}
    for frame, figure, joint, x, y in rows:
        table = points.setdefault(figure, np.full((count, joints, 2), -1.0))
        if x >= 0 and y >= 0:
            table[frame, joint] = x, y
    return points
