"""The lines of a list file, as (number, path, label): its separator, its header, comments and malformed lines."""

from __future__ import annotations

import csv
import math
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from vidssl.data.decode.address import split_rate
from vidssl.data.decode.part import Part
from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.formats.line import LABEL_COLUMNS, PATH_COLUMNS, Line, is_there, line_of
from vidssl.errors import VidsslError


class _Text(NamedTuple):
    number: int
    text: str

    @property
    def is_marked(self) -> bool:
        """Whether it begins like a comment."""
        return self.text.lstrip().startswith("#")


class _Layout(NamedTuple):
    """How lines are split, and the columns of the header in small letters (empty without a header)."""

    split: Callable[[str], list[str]]
    header: list[str]

    def column(self, names: Sequence[str], default: int | None) -> int | None:
        """Place of the first of `names` that the header holds; `default` without a header."""
        at = (self.header.index(name) for name in names if name in self.header)
        return next(at, None) if self.header else default

    def fields(self, line: _Text) -> list[str]:
        """The line's fields but for empty ones behind a last separator; none if its quotes do not close."""
        try:
            row = self.split(line.text)
        except csv.Error:
            return []
        while len(row) > (len(self.header) or 2) and not row[-1]:
            row.pop()
        return row


def read_lines(path: Path, rate: float | None = None) -> list[Line]:
    """The videos of the list at `path`, in its order.

    A line that begins with # is a comment, unless it names an existing file (HMDB51 has such names).

    Args:
        rate: of the folders of frames among them, where the list does not state it.

    Raises:
        VidsslError: not a list, or a line that cannot be understood (named by its number).
    """
    texts = _read_texts(path)
    plain = [text for text in texts if not text.is_marked]
    layout = _understand(path, plain or texts)
    if layout.header:
        texts.remove(plain[0])
    lines, doubtful = [], []
    several: list[int] = []  # numbers of lines
    for text in texts:
        if not text.is_marked:
            lines.append(_parse(path, text, layout, rate, several))
            continue
        at, row = layout.column(PATH_COLUMNS, default=0) or 0, layout.fields(text)
        name = row[at] if at < len(row) else ""
        if name and is_there(path.parent / name):
            lines.append(_parse(path, text, layout, rate, several))
        elif is_video_name(name) and not is_there(path.parent / name.lstrip("# ")):
            doubtful.append(text)
    if doubtful:
        warnings.warn(
            f"{path}: lines that begin with # and name no existing video are comments: {len(doubtful)}, the first is "
            f"line {doubtful[0].number}: {doubtful[0].text[:120]!r}",
            stacklevel=4,
        )
    if several:
        warnings.warn(
            f"{path}: lines with several labels: {len(several)}, the first is line {several[0]}; no video of the list has a "
            "label then: training needs none, evaluations need one for each",
            stacklevel=4,
        )
        lines = [line._replace(label=None) for line in lines]
    return lines


def _read_texts(path: Path) -> list[_Text]:
    """Lines with something on them, numbered from 1."""
    if is_video_name(path.name):
        raise VidsslError(f"{path}: is a video, not a folder or a list of videos")
    lines = _decoded(path).split("\n")
    numbered = (_Text(number, line.strip(" \r\v\f")) for number, line in enumerate(lines, 1))
    return [line for line in numbered if line.text.strip()]


def _decoded(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(1 << 16)
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        if b"\0" in data and not is_utf16:
            raise VidsslError(f"{path}: is not a list of videos (it holds binary data)")
        data += file.read()
    # Names that are not UTF-8 come through as they are on disk.
    return data.decode("utf-16") if is_utf16 else data.decode("utf-8-sig", errors="surrogateescape")


def _understand(path: Path, texts: Sequence[_Text]) -> _Layout:
    """The separator under which most lines give the name of a video and at most one field more, then that under which
    most give the name of a video; where no name ends like a video's, that under which most lines give two fields; where there is only
    a header, that under which it is one."""
    scores = []
    for split in (_splitter("\t"), _splitter(","), _splitter(";"), _split_colons, _split_blanks):
        first = _Layout(split, []).fields(texts[0]) if texts and not texts[0].is_marked else []
        columns = [name.strip().lower() for name in first]
        while columns and not columns[-1]:
            columns.pop()
        header = columns if set(columns) & {*PATH_COLUMNS, *LABEL_COLUMNS} else []
        layout = _Layout(split, header)
        at = layout.column(PATH_COLUMNS, default=0)
        rows = [layout.fields(text) for text in texts[bool(header) : 1000]]
        named = [row for row in rows if at is not None and at < len(row) and is_video_name(row[at])]
        fit = sum(len(row) == len(header or row[:2]) for row in named)
        pairs = sum(1 < len(row) == len(header or row[:2]) for row in rows)
        scores.append((fit, len(named), pairs, len(header), layout))
    layout = max(scores, key=lambda score: score[:4])[4]
    if layout.header and layout.column(PATH_COLUMNS, default=None) is None:
        raise VidsslError(
            f"{path}: has no column for the path (found {', '.join(layout.header)}; expected {PATH_COLUMNS[0]!r})"
        )
    return layout


def _splitter(separator: str) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        row = next(csv.reader([text], delimiter=separator, skipinitialspace=True, strict=True))
        return row if '"' in text else [field.strip() for field in row]

    return split


def _split_colons(text: str) -> list[str]:
    return [field.strip() for field in text.split("::")]  # V-JEPA's second separator


def _split_blanks(text: str) -> list[str]:
    """The path, which may hold blanks, ends with the last word that ends like a video, or else before the last word."""
    text = text.strip()
    words = list(re.finditer(r"\S+", text))
    ends = [word.end() for word in words if is_video_name(word.group().strip('"'))]
    end = ends[-1] if ends else words[-2 if len(words) > 1 else -1].end()
    path, rest = text[:end], " ".join(text[end:].split())
    labels = next(csv.reader([rest], delimiter=" ", strict=True)) if rest else []
    return [path[1:-1] if len(path) > 1 and path[0] == path[-1] == '"' else path, *labels]


def _parse(path: Path, text: _Text, layout: _Layout, rate: float | None, several: list[int]) -> Line:
    """A line; its number goes to `several` if it has more than one whole number for labels, as mmaction2's may."""
    row, header = layout.fields(text), layout.header
    if not header and len(row) == 3 and row[1].isdecimal() and row[2] == "-1":
        row = row[:1]  # path, first frame, number of frames, as in VideoMAE v2's lists: -1 is the whole video
    if not header and row and not is_video_name(row[0]) and (listed := _listed_frames(path, text, rate)):
        return listed
    if not header and len(row) > 2 and is_video_name(row[0]) and all(map(str.isdecimal, row[1:])):
        several.append(text.number)
        row = row[:1]
    at = layout.column(PATH_COLUMNS, default=0) or 0
    if len(row) != len(header or row[:2]) or not row or not row[at]:
        expected = f"the {len(header)} columns of its header" if header else "a path and at most one label"
        found = f" but {len(row) - 1} ({', '.join(row[1:6])})" if not header and len(row) > 2 else ""
        hint = "; more columns need a header such as path,label" if found else ""
        raise VidsslError(
            f"{path}: line {text.number} does not hold {expected}{found}: {text.text[:120]!r}{hint}"
        )
    return line_of(path, text.number, dict(zip(header or ("path", "label"), row, strict=False)), rate)


def _listed_frames(path: Path, text: _Text, rate: float | None) -> Line | None:
    """``folder frames label`` or ``folder first frames label``, as TSN and mmaction2 list folders of frames; else None.

    With a first frame the line is a part of the folder; without one the folder knows best how many frames it has.
    """
    words = text.text.split()
    numbers = [word for word in words[-3:] if re.fullmatch(r"-?\d+", word)]
    if (path.parent / " ".join(words[:-1])).is_dir():
        return None
    if len(words) > 3 and len(numbers) == 3 and (path.parent / (name := " ".join(words[:-3]))).is_dir():
        first, count, label = words[-3:]
        line = line_of(path, text.number, {"path": name, "label": label}, rate)
        fps = split_rate(line.path)[1] or math.nan
        return line._replace(part=Part(int(first) / fps, (int(first) + int(count)) / fps))
    if len(words) > 2 and len(numbers) >= 2:
        return line_of(path, text.number, {"path": " ".join(words[:-2]), "label": words[-1]}, rate)
    return None
