"""List files: one video a line, ``path,label`` or ``path label``, as the video projects of the field write them.

Understood: a comma, a tab or blanks between path and label (with blanks the last word is the label, so that paths may
hold blanks); a header that names a path and a label column among others; quotes, a byte order mark, CRLF, blank lines
and comments (#); no label at all. If all labels are whole numbers and a ``classes.csv`` (id,name) lies beside the list,
they become names; -1 is no label.
"""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from vidssl.data.manifest.classes import table_rows
from vidssl.errors import VidsslError
from vidssl.files import whole_file

VIDEO_EXTENSIONS = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ts")
PATH_COLUMNS = ("path", "file", "file_name", "filename", "file_path", "filepath", "video", "video_path")
LABEL_COLUMNS = ("label", "label_name", "class", "class_name", "label_id", "class_id", "action")

Row = list[str]


class _Line(NamedTuple):
    number: int
    text: str


class _Entry(NamedTuple):
    number: int
    path: str
    label: str | None


def is_video_name(name: str) -> bool:
    """Whether a file name ends like a video's, in small or capital letters."""
    return name.lower().endswith(VIDEO_EXTENSIONS)


def read_list(path: Path, missing: Literal["error", "skip"] = "error") -> list[tuple[str, str | None]]:
    """(path, label) of every video in the list at ``path``, in its order, each once.

    Paths come out posix and relative to the list's folder where they lie below it.

    Raises:
        VidsslError: not a list, a malformed line (named by its number), a missing file (unless skipped), a path with
            two labels, a label number that classes.csv does not know, or no video at all.
    """
    lines = _read_lines(path)
    split, header = _understand(path, lines)
    entries = _parse(path, lines[1:] if header else lines, split, header)
    entries = _drop_repeated(path, _name_classes(path, entries))
    absent = [entry for entry in entries if not (path.parent / entry.path).is_file()]
    if absent and missing == "error":
        first = absent[0]
        if len(absent) == len(entries) and not any(is_video_name(entry.path) for entry in entries):
            raise VidsslError(f"{path}: is not a list of videos (line {first.number} names {first.path!r})")
        raise VidsslError(
            f"{path}: {len(absent)} of {len(entries)} listed videos do not exist, the first is {first.path!r} "
            f"(line {first.number}); missing='skip' leaves them out"
        )
    gone = {entry.path for entry in absent}
    kept = [(entry.path, entry.label) for entry in entries if entry.path not in gone]
    if not kept:
        found = f"none of the {len(entries)} listed videos exists" if entries else "lists no videos"
        raise VidsslError(f"{path}: {found}")
    return kept


def write_list(path: Path, rows: Sequence[tuple[str, str | None]], root: Path) -> None:
    """Write ``path,label`` rows for `read_list`, replacing the file at once. Everything is quoted, so that no name is
    taken for a comment, a number or a separator; paths relative to ``root`` are made to fit the list's own folder.

    Raises:
        VidsslError: a name holds a line break.
    """
    folder = path.absolute().parent
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerow(("path", "label"))
    for name, label in rows:
        if not {"\n", "\r"}.isdisjoint(name + (label or "")):
            raise VidsslError(f"{name!r}: a list cannot hold a name with a line break")
        writer.writerow((name if folder == root else (root / name).as_posix(), label or ""))
    with whole_file(path) as partial:
        partial.write_bytes(text.getvalue().encode("utf-8", "surrogateescape"))


def _read_lines(path: Path) -> list[_Line]:
    """Lines with something on them, numbered from 1."""
    if is_video_name(path.name):
        raise VidsslError(f"{path}: is a video, not a folder or a list of videos")
    lines = _decoded(path).split("\n")
    numbered = (_Line(number, line.strip(" \r\v\f")) for number, line in enumerate(lines, 1))
    return [line for line in numbered if line.text.strip() and not line.text.lstrip().startswith("#")]


def _decoded(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(1 << 16)
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        if b"\0" in data and not is_utf16:
            raise VidsslError(f"{path}: is not a list of videos (it holds binary data)")
        data += file.read()
    # Names that are not UTF-8 come through as they are on disk.
    return data.decode("utf-16") if is_utf16 else data.decode("utf-8-sig", errors="surrogateescape")


def _understand(path: Path, lines: Sequence[_Line]) -> tuple[Callable[[str], Row], Row]:
    """How to split the lines, and the header's columns in small letters (empty without a header).

    The separator is the one under which most lines give the name of a video and at most one field more; where no
    name ends like a video's, the one under which most lines give two fields.
    """
    scores = []
    for split in (_splitter("\t"), _splitter(","), _split_blanks):
        columns = [name.strip().lower() for name in _fields(split, lines[0])] if lines else []
        header = columns if set(columns) & {*PATH_COLUMNS, *LABEL_COLUMNS} else []
        at = _column(header, PATH_COLUMNS, default=0)
        rows = [_fields(split, line) for line in lines[bool(header) : 1000]]
        fit = [row for row in rows if row and len(row) == len(header or row[:2])]
        named = sum(at is not None and is_video_name(row[at]) for row in fit)
        scores.append((named, sum(len(row) > 1 for row in fit), split, header))
    _, _, split, header = max(scores, key=lambda score: score[:2])
    if header and _column(header, PATH_COLUMNS, default=None) is None:
        raise VidsslError(
            f"{path}: has no column for the path (found {', '.join(header)}; expected {PATH_COLUMNS[0]!r})"
        )
    return split, header


def _column(header: Row, names: Sequence[str], default: int | None) -> int | None:
    """Place of the first of ``names`` that the header holds; ``default`` without a header."""
    return next((header.index(name) for name in names if name in header), None) if header else default


def _split_blanks(text: str) -> Row:
    """The last word is the label, unless it ends like a video: then the whole line is a path."""
    words = text.strip().rsplit(None, 1)
    if len(words) == 1 or is_video_name(words[1].strip('"')):
        words = [text.strip()]
    return [word[1:-1] if len(word) > 1 and word[0] == word[-1] == '"' else word for word in words]


def _splitter(separator: str) -> Callable[[str], Row]:
    def split(text: str) -> Row:
        row = next(csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True))
        return row if '"' in text else [field.strip() for field in row]

    return split


def _fields(split: Callable[[str], Row], line: _Line) -> Row:
    """The line's fields; none if its quotes do not close."""
    try:
        return split(line.text)
    except csv.Error:
        return []


def _parse(path: Path, lines: Sequence[_Line], split: Callable[[str], Row], header: Row) -> list[_Entry]:
    """Entries with paths made relative to the list's folder where they lie below it."""
    at = _column(header, PATH_COLUMNS, default=0) or 0
    label_at = _column(header, LABEL_COLUMNS, default=1)
    expected = f"the {len(header)} columns of its header" if header else "a path and at most one label"
    entries = []
    for line in lines:
        row = _fields(split, line)
        if len(row) != len(header or row[:2]) or not row or not row[at]:
            raise VidsslError(f"{path}: line {line.number} does not hold {expected}: {line.text[:120]!r}")
        name = PurePosixPath(row[at])
        if name.is_relative_to(path.parent):
            name = name.relative_to(path.parent)
        label = row[label_at] if label_at is not None and label_at < len(row) else ""
        entries.append(_Entry(line.number, str(name), label or None))
    return entries


def _name_classes(path: Path, entries: Sequence[_Entry]) -> list[_Entry]:
    """Whole-number labels replaced by the names in classes.csv, if there is one; -1 is no label."""
    numbers = {entry.label for entry in entries if entry.label is not None}
    if not numbers or not all(number.removeprefix("-").isdecimal() for number in numbers):
        return list(entries)
    names: dict[int, str] = {}
    if (beside := path.parent / "classes.csv").is_file() and beside != path:
        names = _class_names(beside)
        for entry in entries:
            if entry.label is not None and int(entry.label) not in names and int(entry.label) != -1:
                raise VidsslError(
                    f"{path}: line {entry.number}: label {entry.label} is not an id of {beside}"
                )
    name_of = {number: None if int(number) == -1 else names.get(int(number), number) for number in numbers}
    return [entry._replace(label=name_of.get(entry.label or "")) for entry in entries]


def _class_names(path: Path) -> dict[int, str]:
    """id -> name of a classes.csv, with or without header; columns beyond the second are for others."""
    names: dict[int, str] = {}
    text = _decoded(path)
    for number, row in table_rows(text, strict=True):
        cells = [cell.strip() for cell in row]
        if len(cells) > 1 and cells[0].isdecimal() and cells[1]:
            names[int(cells[0])] = cells[1]
        elif names or len(cells) < 2:
            line = text.split("\n")[number - 1].strip(" \r\v\f")
            raise VidsslError(f"{path}: line {number} does not hold an id and a name: {line[:120]!r}")
    return names


def _drop_repeated(path: Path, entries: Sequence[_Entry]) -> list[_Entry]:
    """Each path once, in order, with a warning; a path with two different labels is an error."""
    first: dict[str, _Entry] = {}
    for entry in entries:
        known = first.setdefault(entry.path, entry)
        if known.label != entry.label:
            raise VidsslError(
                f"{path}: {entry.path!r} is labelled {known.label!r} on line {known.number} "
                f"and {entry.label!r} on line {entry.number}"
            )
    if len(first) < len(entries):
        times = len(entries) - len(first)
        warnings.warn(f"{path}: videos listed again, each counts once: {times}", stacklevel=4)
    return list(first.values())
