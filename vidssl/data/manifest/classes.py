"""Class lists in plain text: one name a line, numbered names, or a table with a column of names.

    archery               1 ApplyEyeMakeup        id,name,text
    moving, slowly        2 YoYo                  0,archery,a person with a bow

The one reader of them: for the labels of lists of videos, for concepts, which know richer formats too, and for
evaluation. Byte order marks, CRLF, quotes, blank lines and comments (``#``) are harmless.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

from vidssl.errors import VidsslError

NAME_COLUMNS = ("name", "class name", "class_name", "classname", "class", "label")
_TEXT_COLUMN = re.compile(r"text|sentence|.*(descri|discri|defin).*")


class ClassTable(NamedTuple):
    """A class list as rows of cells, in the order of the file.

    Attributes:
        header: columns in small letters; empty without a header.
        rows: cells of each row, at least as many as the header has.
        name: column of the names, as they are spelt.
        text: column of texts about the classes, None without one.
    """

    header: list[str]
    rows: list[list[str]]
    name: int
    text: int | None = None

    @property
    def names(self) -> list[str]:
        """The names, as they are spelt."""
        return [row[self.name].strip() for row in self.rows]

    def numbered(self, path: Path) -> dict[int, str]:
        """number -> name, by a column ``id`` or else the one before the names; empty where that holds no numbers.

        Args:
            path: of the file, for messages.

        Raises:
            VidsslError: when only some classes have a number, or two have the same.
        """
        at = self.header.index("id") if "id" in self.header else self.name - 1
        cells = [row[at].strip() for row in self.rows] if at >= 0 else []
        if not any(cell.isdecimal() for cell in cells):
            return {}
        names: dict[int, str] = {}
        for cell, name in zip(cells, self.names, strict=True):
            if not cell.isdecimal() or not name:
                raise VidsslError(f"{path}: class {name!r} has no number but {cell!r}, others have one")
            if names.setdefault(int(cell), name) != name:
                raise VidsslError(f"{path}: {names[int(cell)]!r} and {name!r} have the same number, {cell}")
        return names


def read_class_list(path: Path) -> ClassTable | None:
    """The classes of a plain list; None for a file of another kind, such as JSON or Markdown.

    Raises:
        VidsslError: as `read_text`, for quotes that do not close in a table, or for a .csv of several columns none of
            which is one of names.
    """
    text = read_text(path)
    if text.lstrip()[0] in "{[" or "\n```" in text:
        return None
    lines = content_lines(text)
    table = class_table(text)
    broken = next((number for number, row in table_rows(text, strict=True) if not row), None)
    if table is not None and broken is not None:
        raise VidsslError(f"{path}: quotes do not close, seen up to line {broken}")
    found = table or numbered_names(lines)
    header = next(csv.reader(lines[:1]), [])
    if found is None and path.suffix == ".csv" and len(header) > 1:
        columns = [cell.strip().lower() for cell in header]
        raise VidsslError(f"{path}: columns {columns} have no `name`; expected a header such as id,name,text")
    return found or ClassTable([], [[line] for line in lines], 0)


def class_table(text: str) -> ClassTable | None:
    """A table with one of `NAME_COLUMNS` in its header, or of ``0,name`` rows without one; None for any other text."""
    rows = [row for _, row in table_rows(text)]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    name = next((header.index(column) for column in NAME_COLUMNS if column in header), None)
    if name is not None:
        padded = [row + [""] * (len(header) - len(row)) for row in rows[1:]]
        column = next((place for place, title in enumerate(header) if _TEXT_COLUMN.fullmatch(title)), None)
        return ClassTable(header, padded, name, column)
    if rows and all(len(row) > 1 and row[0].isdecimal() for row in rows):
        return ClassTable([], rows, 1)
    return None


def numbered_names(lines: list[str]) -> ClassTable | None:
    """``1 ApplyEyeMakeup`` a line, as UCF101's classInd.txt, or ``0: name``, without gaps from 0 or 1; else None."""
    matches = [re.fullmatch(r"(\d+)(?::\s*|\s+)(\S.*)", line) for line in lines]
    rows = [list(match.groups()) for match in matches if match]
    if not rows or len(rows) < len(lines) or int(rows[0][0]) > 1:
        return None
    start = int(rows[0][0])
    ordered = all(int(row[0]) == number for number, row in enumerate(rows, start))
    return ClassTable([], rows, 1) if ordered else None


def table_rows(text: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Rows of a table as (number of the last line, cells), separated by tabs where the first line has one, else by commas
    where it has one, else by semicolons.

    Args:
        text: of the file.
        strict: a row whose quotes do not close has no cells, and is the last.
    """
    lines = content_lines(text)
    delimiter = next((mark for mark in "\t,;" if lines and mark in lines[0]), ",")
    reader = csv.reader(StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=strict)
    try:
        for row in reader:
            if any(cell.strip() for cell in row) and not row[0].lstrip().startswith("#"):
                yield reader.line_num, row
    except csv.Error:
        yield reader.line_num, []


def content_lines(text: str) -> list[str]:
    """Lines that are neither blank nor comments (``#`` at the start), stripped."""
    stripped = [line.strip() for line in text.split("\n")]
    return [line for line in stripped if line and not line.startswith("#")]


def read_text(path: Path) -> str:
    """The content of a text file, without a byte order mark and with plain line ends.

    Raises:
        VidsslError: when it is missing, no UTF-8 (or marked UTF-16) text, or empty.
    """
    try:
        data = path.read_bytes()
        is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))  # as spreadsheets write it
        text = data.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise VidsslError(f"{path}: no UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise VidsslError(f"{path}: no text file (it holds zero bytes)")
    if not text.strip():
        raise VidsslError(f"{path}: empty")
    return text
