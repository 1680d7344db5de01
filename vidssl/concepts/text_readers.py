"""Readers of tables, plain lists and CLIP's ``prompts.md``."""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Iterator
from io import StringIO
from typing import Any

from vidssl.concepts.prompts import ConceptFile
from vidssl.concepts.sources import (
    NotThisFormat,
    Source,
    described,
    looks_like_name,
    named,
    pick_section,
    split_sentences,
)
from vidssl.errors import VidsslError

NAME_COLUMNS = ("name", "class name", "class_name", "classname", "class", "label")
TEXT_COLUMN = re.compile(r"text|sentence|.*(descri|discri|defin).*")
LONG_CELL = 60  # words; a cell longer than this, or with line breaks, holds several sentences


def read_csv(source: Source) -> ConceptFile:
    """A table with a column `name` and, where there is one, a column of descriptions.

    ``id,name`` (X-CLIP, ActionCLIP), ``id<TAB>name<TAB>display``, ``SNo,Class Name,GPT3 discription`` (EZ-CLIP). The id
    column is not used: rows are in the order of the file. A class may have a row for each sentence.
    """
    text = re.sub(r"\A(#[^\n]*\n)+", "", source.text)  # comments above the header
    delimiter = "\t" if "\t" in text.split("\n", 1)[0] else ","
    rows = [
        row for row in csv.reader(StringIO(text), delimiter=delimiter) if any(cell.strip() for cell in row)
    ]
    header = [cell.strip().lower() for cell in rows[0]]
    name_column = next((header.index(name) for name in NAME_COLUMNS if name in header), None)
    if name_column is None:
        raise NotThisFormat(f"first line is no header with one of {', '.join(NAME_COLUMNS)}")
    text_column = next((i for i, name in enumerate(header) if TEXT_COLUMN.fullmatch(name)), None)
    texts: dict[str, list[str]] = {}
    for number, row in enumerate(rows[1:], start=2):
        if len(row) != len(header):
            raise VidsslError(
                f"{source.path}: row {number} has {len(row)} cells, the header {len(header)}: {row}"
            )
        name = row[name_column].strip()
        if name in texts and text_column is None:
            raise VidsslError(f"{source.path}: row {number}: {name!r} is listed twice")
        listed = texts.setdefault(name, [])
        if text_column is not None:
            listed += _cell_sentences(row[text_column])
    return described(source, texts) if any(texts.values()) else named(source, list(texts))


def read_class_index(source: Source) -> ConceptFile:
    """``1 ApplyEyeMakeup`` a line, as UCF101's classInd.txt, or ``0: name``; numbers without gaps from 0 or 1."""
    matches = [re.fullmatch(r"(\d+)(?::\s*|\s+)(\S.*)", line) for line in source.lines]
    rows = [match.groups() for match in matches if match]
    if len(rows) < len(matches):
        raise NotThisFormat("lines without a number")
    numbers = [int(number) for number, _ in rows]
    if numbers[0] > 1 or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise NotThisFormat("numbers are not 1, 2, 3, …")
    return named(source, [name for _, name in rows])


def read_names(source: Source) -> ConceptFile:
    """One class name a line (mmaction2's label maps among others); CSV quotes around a name go."""
    for line in source.lines:
        if not looks_like_name(line):
            raise NotThisFormat(f"{line[:40]!r} is no class name")
    return named(source, source.lines)


def read_clip_prompts(source: Source) -> ConceptFile:
    """CLIP's ``data/prompts.md``: for each data set two Python literals, `classes` and `templates`."""
    sections = clip_sections(source)
    section = pick_section(source, list(sections))
    classes = sections[section].get("classes")
    if not isinstance(classes, list) or not classes:
        raise VidsslError(f"{source.path}: {section}: no classes")
    spelled = [
        item if isinstance(item, list) else [item] for item in classes
    ]  # some classes have several names
    inner = Source(source.path, source.text, source.classes, section)
    file = named(inner, [names[0] for names in spelled], sections[section].get("templates") or ["{}"])
    concepts = [
        concept.model_copy(update={"aliases": tuple(names[1:])})
        for concept, names in zip(file.concepts, spelled, strict=True)
    ]
    return file.model_copy(update={"concepts": tuple(concepts)})


def clip_sections(source: Source) -> dict[str, dict[str, Any]]:
    """The literals of every ``## data set`` that has any."""
    sections = {}
    for block in re.split(r"^## ", source.text, flags=re.MULTILINE)[1:]:
        code = re.search(r"^```\w*\n(.*?)^```", block, flags=re.MULTILINE | re.DOTALL)
        literals = dict(_literals(code.group(1))) if code else {}
        if "classes" in literals:
            sections[block.split("\n", 1)[0].strip()] = literals
    if not sections:
        raise NotThisFormat("no heading with `classes = […]` below it")
    return sections


def _literals(code: str) -> Iterator[tuple[str, Any]]:
    """Assignments of literals; the code is parsed, never run."""
    try:
        tree = ast.parse(code)
    except SyntaxError as error:
        raise NotThisFormat(f"no Python literals ({error.msg})") from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                yield node.targets[0].id, ast.literal_eval(node.value)
            except ValueError:
                continue


def _cell_sentences(cell: str) -> list[str]:
    cell = cell.strip()
    if not cell:
        return []
    return split_sentences(cell) if "\n" in cell or len(cell.split()) > LONG_CELL else [cell]
