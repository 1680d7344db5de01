"""List files: one video a line, ``path,label`` or ``path label``, as the video projects of the field write them.

Understood: a comma, a semicolon, a tab or blanks between path and label (paths may hold blanks); a header that names a
path, a label and a group column among others; quotes, a byte order mark, CRLF, blank lines, comments (#) and back-slashes in
paths; no label at all. If all labels are whole numbers and a ``classes.csv`` (id,name) or UCF101's ``classInd.txt`` lies
beside the list, they become names; -1 is no label. See docs/data.md.
"""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.formats.annotations import located, read_annotations
from vidssl.data.manifest.formats.labels import name_labels
from vidssl.data.manifest.formats.line import Line, is_there, line_of
from vidssl.data.manifest.formats.rows import read_lines
from vidssl.errors import VidsslError
from vidssl.files import whole_file

Missing = Literal["error", "skip", "count"]


class Listed(NamedTuple):
    """A list's videos, each once, and those that do not exist."""

    videos: list[Line]
    missing: list[Line]


def read_list(
    path: Path, missing: Missing = "error", rate: float | None = None, split: str | None = None
) -> Listed:
    """The videos of the list at ``path``, in its order.

    Paths come out posix and relative to the list's folder where they lie below it.

    Args:
        path: of the list.
        missing: about listed files that do not exist: refuse the list, leave them out (``skip``), or let them stay, to
            fail when they are opened (``count``).
        rate: of the folders of frames among them, where the list does not state it.
        split: of an annotation file that holds several.

    Raises:
        VidsslError: not a list, a malformed line (named by its number), a missing file where that is an error, a path
            with two labels or groups, a label number that the class list does not know, or no video at all.
    """
    lines = _drop_repeated(path, name_labels(path, _lines(path, rate, split)))
    absent = [line for line in lines if not is_there(path.parent / line.path)]
    if absent and missing == "error":
        first = absent[0]
        if len(absent) == len(lines) and not any(is_video_name(line.path) for line in lines):
            raise VidsslError(f"{path}: is not a list of videos (line {first.number} names {first.path!r})")
        way_out = (
            f"paths count from the folder of the list, {path.parent}"
            if len(absent) == len(lines)
            else "--missing skip leaves them out, --missing count counts them as wrong (a recipe: data.missing=skip)"
        )
        raise VidsslError(
            f"{path}: {len(absent)} of {len(lines)} listed videos do not exist, the first is {first.path!r} "
            f"(line {first.number}); {way_out}"
        )
    gone = {line.path for line in absent}
    if len(absent) == len(lines):
        found = f"none of the {len(lines)} listed videos exists" if lines else "lists no videos"
        raise VidsslError(f"{path}: {found}")
    kept = lines if missing == "count" else [line for line in lines if line.path not in gone]
    return Listed(kept, absent)


def _lines(path: Path, rate: float | None, split: str | None) -> list[Line]:
    if re.fullmatch(r".+_test_split[123]\.txt", path.name):
        raise VidsslError(
            f"{path}: is one class of a split of HMDB51, with flags in place of labels; name the folder of the videos and "
            f"the split instead, such as videos#split=train{path.stem[-1]}"
        )
    if path.suffix == ".npy":
        return _lines_of_array(path, rate)
    annotated = read_annotations(path, rate, split)
    if annotated is not None:
        return annotated
    if split is not None:
        raise VidsslError(f"{path}: #split={split}: only annotation files and UCF101 and HMDB51 have splits")
    lines = read_lines(path, rate)
    if lines and not any(
        "/" in line.path or is_video_name(line.path) or is_there(path.parent / line.path) for line in lines
    ):
        return located(path, lines, rate)  # ids, as in Jester and Something-Something v1
    return lines


def _lines_of_array(path: Path, rate: float | None) -> list[Line]:
    """A numpy file of paths, as V-JEPA reads."""
    try:
        names = np.load(path, allow_pickle=False).reshape(-1).tolist()
    except (ValueError, OSError) as error:
        raise VidsslError(f"{path}: is no array of paths ({str(error).splitlines()[0]})") from None
    return [line_of(path, number, {"path": str(name)}, rate) for number, name in enumerate(names, 1)]


def write_list(path: Path, rows: Sequence[Line], root: Path) -> None:
    """Write ``path,label,group,start,end`` rows for `read_list`, replacing the file at once; without a group, or a part
    of a file, there are no columns for them. Everything is quoted, so that no name is
    taken for a comment, a number or a separator; paths relative to ``root`` are made to fit the list's own folder.

    Raises:
        VidsslError: a name holds a line break.
    """
    folder = path.absolute().parent
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    header = ["path", "label"]
    header += ["group"] * any(row.group is not None for row in rows)
    header += ["start", "end"] * any(row.part is not None for row in rows)
    writer.writerow(header)
    for row in rows:
        if not {"\n", "\r"}.isdisjoint(row.path + (row.label or "") + (row.group or "")):
            raise VidsslError(f"{row.path!r}: a list cannot hold a name with a line break")
        start, stop = ("", "") if row.part is None else map(repr, row.part)
        fields = {
            "path": row.path if folder == root else (root / row.path).as_posix(),
            "label": row.label or "",
            "group": row.group or "",
            "start": start,
            "end": "" if stop == "inf" else stop,
        }
        writer.writerow(fields[column] for column in header)
    with whole_file(path) as partial:
        partial.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def _drop_repeated(path: Path, lines: Sequence[Line]) -> list[Line]:
    """Each video or part of one once, in order, with a warning; two different labels or groups of one are an error."""
    first: dict[str, Line] = {}
    for line in lines:
        known = first.setdefault(line.name, line)
        for what, one, other in (
            ("is labelled", known.label, line.label),
            ("is in the group", known.group, line.group),
        ):
            if one != other:
                raise VidsslError(
                    f"{path}: {line.name!r} {what} {one!r} on line {known.number} and {other!r} on line {line.number}"
                )
    if len(first) < len(lines):
        times = len(lines) - len(first)
        warnings.warn(f"{path}: videos listed again, each counts once: {times}", stacklevel=4)
    return list(first.values())
