"""A row of any list: which file, what it shows, and which part of it is meant."""

from __future__ import annotations

import math
import stat
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vidssl.data.decode.address import split_archive, split_rate, with_rate
from vidssl.data.decode.archive import tar_index
from vidssl.data.decode.part import Part
from vidssl.data.decode.trouble import MachineTroubleError, patiently
from vidssl.data.hub import saved_videos, split_row
from vidssl.data.manifest.extensions import is_video_name
from vidssl.errors import VidsslError

PATH_COLUMNS = ("path", "file", "file_name", "filename", "file_path", "filepath", "video", "video_path")
LABEL_COLUMNS = ("label", "label_name", "class", "class_name", "label_id", "class_id", "action")
GROUP_COLUMNS = ("group", "group_id")
START_COLUMNS, STOP_COLUMNS = ("start", "start_time"), ("end", "end_time", "stop")
RATE_COLUMN = "fps"
GAPS = ("", "nan", "NaN", "<NA>")  # the last three are what pandas writes into one


class Line(NamedTuple):
    """A row of a list that names a video. path: posix, below the list's folder where it lies there; group: name of the
    videos that were recorded together, such as those of one person. part: of the file, None for all of it."""

    number: int
    path: str
    label: str | None
    group: str | None = None
    part: Part | None = None

    @property
    def name(self) -> str:
        """The path, and which part of the file."""
        return f"{self.path}{self.part or ''}"


def line_of(
    path: Path, number: int, fields: Mapping[str, str], rate: float | None = None, part: Part | None = None
) -> Line:
    """The row of a list whose columns, in small letters, are `fields`.

    Args:
        path: of the list. number: of the row, for messages.
        rate: of folders of frames, where no column says it.
        part: of the file, where no column says it.

    Raises:
        VidsslError: it names no file, a folder of frames without a rate, or no possible segment.
    """
    where = f"{path}: line {number}"
    name = next((fields[column] for column in PATH_COLUMNS if fields.get(column)), "")
    if not name:
        raise VidsslError(f"{where} names no file: {dict(fields)!r}")
    name = _inside(path, name)
    if not is_video_name(name) and (path.parent / name).is_dir():
        name = _with_rate(where, name, fields.get(RATE_COLUMN, ""), rate)
    label = next((fields[column] for column in LABEL_COLUMNS if column in fields), "")
    group = next((fields[column] for column in GROUP_COLUMNS if column in fields), "")
    part = _part(where, fields) or part
    return Line(number, name, label or None, None if group in GAPS else group, part)


def is_there(path: Path) -> bool:
    """Whether there is such a file, member of a tar file or folder of frames; no name is too long to ask.

    Raises:
        VidsslError: when the file system does not answer: what is not seen is not gone.
    """
    try:
        mode = patiently(path.stat, path).st_mode
    except MachineTroubleError:
        raise
    except (OSError, ValueError):
        if (row := split_row(path)) is not None:
            return row[1] < len(saved_videos(row[0])[0])
        found = split_archive(path)
        if found is None:
            folder, rate = split_rate(path)
            return rate is not None and folder.is_dir()
        try:
            return found[1] in tar_index(found[0]).members
        except MachineTroubleError:
            raise
        except VidsslError:
            return False
    return stat.S_ISREG(mode)


def _inside(path: Path, name: str) -> str:
    """A name as a path from the folder of the list at `path`."""
    if "\\" in name and not is_there(path.parent / name):
        name = name.replace("\\", "/")
    archive, marked, member = name.partition(".tar@")  # as X-CLIP writes it
    if marked and not is_there(path.parent / name):
        name = f"{archive}.tar/{member}"
    relative = PurePosixPath(name)
    if relative.is_relative_to(path.parent):
        relative = relative.relative_to(path.parent)
    return str(relative)


def _with_rate(where: str, name: str, given: str, rate: float | None) -> str:
    if given not in GAPS:
        try:
            rate = float(given)
        except ValueError:
            rate = math.nan
        if not 0 < rate < math.inf:
            raise VidsslError(f"{where}: {RATE_COLUMN} {given!r} is not a number of frames a second")
    if rate is None:
        raise VidsslError(
            f"{where}: {name!r} is a folder of frames, whose rate is not stated; add a column {RATE_COLUMN}, or write "
            f"#{RATE_COLUMN}=12 behind the name of the list"
        )
    return with_rate(name, rate)


def _part(where: str, fields: Mapping[str, str]) -> Part | None:
    """The segment that the columns `START_COLUMNS` and `STOP_COLUMNS` name, in seconds; None where both have gaps."""
    given: dict[str, float] = {}
    for side, names in (("start", START_COLUMNS), ("stop", STOP_COLUMNS)):
        column = next((column for column in names if column in fields), None)
        if column is None or fields[column] in GAPS:
            continue
        try:
            given[side] = float(fields[column])
        except ValueError:
            given[side] = math.nan
        if not given[side] >= 0 or (side == "start" and math.isinf(given[side])):
            raise VidsslError(f"{where}: {column} {fields[column]!r} is not a number of seconds from 0 on")
    part = Part(**given)
    if part.stop <= part.start:
        raise VidsslError(
            f"{where}: the segment ends at {part.stop:g} s, not after its start at {part.start:g} s"
        )
    return None if part == Part() else part
