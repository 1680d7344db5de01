"""Readers of class lists in plain text and of CLIP's ``prompts.md``."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from vidssl.concepts.formats.source import NotThisFormat, Source, expect
from vidssl.concepts.names import display_name
from vidssl.concepts.prompts import ConceptFile
from vidssl.data.manifest.classes import NAME_COLUMNS, class_table, content_lines, numbered_names

LONG_CELL = 60  # words; a cell longer than this, or with line breaks, holds several sentences
# What begins or ends a line, or stands in it, that is a sentence, a path or markup.
_NO_NAME = re.compile(r"(#|```|\||//|<|\{|\[|- |\* ).*|.*[.:;{[,]|.*\.(avi|mp4|mkv|webm|mov|jpg|npy)\b.*")


def read_csv(source: Source) -> ConceptFile:
    """A table with a column `name` and, where there is one, a column of descriptions.

    ``id,name`` (X-CLIP, ActionCLIP), ``id<TAB>name<TAB>display``, ``SNo,Class Name,GPT3 discription`` (EZ-CLIP). The id
    column is not used: rows are in the order of the file. A class may have a row for each sentence.
    """
    table = class_table(source.text)
    if table is None:
        raise NotThisFormat(f"first line is no header with one of {', '.join(NAME_COLUMNS)}")
    width = len(table.header)
    texts: dict[str, list[str]] = {}
    for number, (name, row) in enumerate(zip(table.names, table.rows, strict=True), start=2):
        long = f"row {number} has {len(row)} cells, the header {width}: {row}"
        source.require(not width or len(row) <= width, long)
        source.require(name not in texts or table.text is not None, f"row {number}: {name!r} is listed twice")
        texts.setdefault(name, []).extend([] if table.text is None else _cell_sentences(row[table.text]))
    return source.described(texts) if any(texts.values()) else source.named(list(texts))


def read_class_index(source: Source) -> ConceptFile:
    """``1 ApplyEyeMakeup`` a line, as UCF101's classInd.txt, or ``0: name``; numbers without gaps from 0 or 1."""
    numbered = numbered_names(content_lines(source.text))
    if numbered is None:
        raise NotThisFormat("lines without a number, or numbers that are not 1, 2, 3, …")
    return source.named(numbered.names)


def read_names(source: Source) -> ConceptFile:
    """One class name a line (mmaction2's label maps among others); CSV quotes around a name go."""
    lines = content_lines(source.text)
    for line in lines:
        short = len(line.split()) <= 25 and len(line) <= 150
        fits = short and bool(display_name(line)) and not _NO_NAME.fullmatch(line)
        expect(fits, f"{line[:40]!r} is no class name")
    return source.named(lines)


def read_clip_prompts(source: Source) -> ConceptFile:
    """CLIP's ``data/prompts.md``: for each data set two Python literals, `classes` and `templates`."""
    sections = {}
    for block in re.split(r"^## ", source.text, flags=re.MULTILINE)[1:]:
        code = re.search(r"^```\w*\n(.*?)^```", block, flags=re.MULTILINE | re.DOTALL)
        literals = dict(_literals(code.group(1))) if code else {}
        if "classes" in literals:
            sections[block.split("\n", 1)[0].strip()] = literals
    expect(bool(sections), "no heading with `classes = […]` below it")
    section, source = source.at_section(list(sections))
    classes = sections[section]["classes"]
    source.require(isinstance(classes, list) and bool(classes), f"{section}: no classes")
    spelled = [item if isinstance(item, list) else [item] for item in classes]  # some have several names
    templates = sections[section].get("templates") or ["{}"]
    return source.named([names[0] for names in spelled], templates, aliases=[names[1:] for names in spelled])


def split_sentences(text: str) -> list[str]:
    """Sentences of a longer text; a last one that was cut off is left out unless it is all there is."""
    pieces = [" ".join(piece.split()) for piece in re.split(r"\n+|(?<=[.!?])\s+(?=[A-Z0-9])", text)]
    pieces = [piece for piece in pieces if piece]
    if len(pieces) > 1 and not pieces[-1].endswith((".", "!", "?")):
        pieces.pop()
    return pieces


def _literals(code: str) -> Iterator[tuple[str, Any]]:
    """Assignments of literals; the code is parsed, never run."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise NotThisFormat(f"no Python literals ({error.msg})") from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with suppress(ValueError):  # no literal
                yield node.targets[0].id, ast.literal_eval(node.value)


def _cell_sentences(cell: str) -> list[str]:
    cell = cell.strip()
    if "\n" in cell or len(cell.split()) > LONG_CELL:
        return split_sentences(cell)
    return [cell] if cell else []
