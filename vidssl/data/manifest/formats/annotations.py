"""Annotation files that name videos by an id: Kinetics, Something-Something, ActivityNet, Charades, and rows of JSON.

The videos are looked for below the folder of the file, then below the folder above it: ``<id>.mp4``, or for Kinetics
``<id>_<start>_<end>.mp4``; with a rate, folders of frames called ``<id>``.
"""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from vidssl.data.decode.address import with_rate
from vidssl.data.decode.frames import is_picture_name
from vidssl.data.decode.part import Part
from vidssl.data.manifest.classes import read_text
from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.formats.folders import files_below
from vidssl.data.manifest.formats.line import PATH_COLUMNS, Line, line_of
from vidssl.errors import VidsslError, check_choice

EXPECTED = (
    "expected rows with a path (path, file_name, …), Something-Something's [{id, template}], "
    "Kinetics' {id: {annotations, subset}} or ActivityNet's {database: {id: {subset, annotations: [{segment, label}]}}}"
)
DEPTH = 4  # folders below which no video is looked for
_SPLITS = {"training": "train", "validation": "val", "validate": "val", "testing": "test"}


class Row(NamedTuple):
    """keys: file names without suffix that the video may have, the likeliest first. split: as the file calls it."""

    number: int
    keys: tuple[str, ...]
    label: str | None
    part: Part | None = None
    split: str = ""


def read_annotations(path: Path, rate: float | None = None, split: str | None = None) -> list[Line] | None:
    """The videos of an annotation file; None for a file of another kind.

    Args:
        path: of the file.
        rate: takes folders of frames for videos.
        split: which part of a file that holds several, such as train; val, validate and validation are one.

    Raises:
        VidsslError: JSON that is none of these, a split that is not there, or several of which none is chosen.
    """
    if path.suffix.lower() in (".json", ".jsonl"):
        records = _json(path)
        if isinstance(records, list) and all(
            isinstance(one, dict) and set(one) & {*PATH_COLUMNS} for one in records
        ):
            return [line_of(path, number, _fields(one), rate) for number, one in enumerate(records, 1)]
        rows = _rows(path, records)
    else:
        table = _table(path)
        if table is None:
            return None
        rows = table
    return _found(path, _of_split(path, list(rows), split), rate)


def located(path: Path, lines: Iterable[Line], rate: float | None) -> list[Line]:
    """Lines whose paths are ids, such as Jester's ``34870;Drumming Fingers``, with the paths of the videos."""
    return _found(path, [Row(line.number, (line.path,), line.label, line.part) for line in lines], rate, "")


def _json(path: Path) -> Any:
    text = read_text(path)
    try:
        if path.suffix.lower() == ".jsonl":
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        return json.loads(text)
    except ValueError as error:
        raise VidsslError(f"{path}: is not JSON ({error})") from None


def _fields(record: Mapping[str, Any]) -> dict[str, str]:
    return {str(key).lower(): "" if value is None else str(value) for key, value in record.items()}


def _rows(path: Path, records: Any) -> Iterator[Row]:
    """Of Something-Something, Kinetics or ActivityNet."""
    if (
        isinstance(records, list)
        and records
        and all(isinstance(one, dict) and "id" in one for one in records)
    ):
        answers = _answers(path.parent)
        for number, one in enumerate(records, 1):
            template = one.get("template") or one.get("label") or answers.get(str(one["id"]))
            yield Row(number, (str(one["id"]),), template and re.sub(r"[\[\]]", "", str(template)))
        return
    database = records.get("database", records) if isinstance(records, dict) else None
    if not isinstance(database, dict) or not database or not all(_is_entry(one) for one in database.values()):
        what = (
            f"an object with {', '.join(list(records)[:5])}"
            if isinstance(records, dict)
            else type(records).__name__
        )
        raise VidsslError(f"{path}: JSON of an unknown form ({what}); {EXPECTED}")
    for number, (name, entry) in enumerate(database.items(), 1):
        notes, subset = entry.get("annotations") or [], str(entry.get("subset", ""))
        if isinstance(notes, dict):  # Kinetics: the file is the segment
            start, stop = notes.get("segment") or (0, 0)
            yield Row(number, _clip_names(name, start, stop), notes.get("label"), None, subset)
        elif not notes:
            yield Row(number, (f"v_{name}", name), None, None, subset)
        for note in notes if isinstance(notes, list) else ():
            start, stop = map(float, note["segment"])
            yield Row(
                number, (f"v_{name}", name), note.get("label"), _segment(path, number, start, stop), subset
            )


def _is_entry(entry: Any) -> bool:
    return isinstance(entry, dict) and bool({"annotations", "subset"} & set(entry))


def _answers(folder: Path) -> dict[str, str]:
    """Something-Something's answers for its test videos, where they lie beside the list."""
    found: dict[str, str] = {}
    for file in sorted(folder.glob("*answers*.csv")):
        rows = (line.partition(";") for line in read_text(file).splitlines())
        found |= {name.strip(): template.strip() for name, _, template in rows}
    return found


def _table(path: Path) -> Iterator[Row] | None:
    """The rows of Kinetics' CSV or of Charades'."""
    if path.suffix.lower() != ".csv":
        return None
    with path.open("rb") as file:
        head = file.read(4096).decode("utf-8-sig", "replace").splitlines()
    header = {name.strip().strip('"') for name in head[0].split(",")} if head else set()
    if {"youtube_id", "time_start"} <= header and not header & {*PATH_COLUMNS}:
        return _kinetics(csv.DictReader(StringIO(read_text(path))))
    if {"id", "actions"} <= header:
        return _charades(path, csv.DictReader(StringIO(read_text(path))))
    return None


def _kinetics(rows: csv.DictReader[str]) -> Iterator[Row]:
    for number, row in enumerate(rows, 2):
        times = row.get("time_start") or 0, row.get("time_end") or 0
        yield Row(
            number,
            _clip_names(row["youtube_id"], *times),
            row.get("label") or None,
            None,
            row.get("split") or "",
        )


def _charades(path: Path, rows: csv.DictReader[str]) -> Iterator[Row]:
    beside = path.parent / "Charades_v1_classes.txt"
    lines = read_text(beside).splitlines() if beside.is_file() else []
    names = {line.partition(" ")[0]: line.partition(" ")[2] for line in lines}
    for number, row in enumerate(rows, 2):
        for action in filter(None, (row["actions"] or "").split(";")):
            match = re.fullmatch(r"(c\d+) ([\d.]+) ([\d.]+)", action.strip())
            if match is None:
                raise VidsslError(
                    f"{path}: line {number}: {action!r} is not an action such as 'c092 11.90 21.20'"
                )
            part = _segment(path, number, float(match[2]), float(match[3]))
            yield Row(number, (row["id"],), names.get(match[1], match[1]), part)


def _segment(path: Path, number: int, start: float, stop: float) -> Part:
    if not 0 <= start < stop:
        raise VidsslError(
            f"{path}: entry {number}: the segment from {start:g} to {stop:g} s ends before it starts"
        )
    return Part(start, stop)


def _clip_names(name: str, start: Any, stop: Any) -> tuple[str, str]:
    """How a clip of Kinetics is called, with its seconds or without."""
    return f"{name}_{int(float(start)):06d}_{int(float(stop)):06d}", name


def _of_split(path: Path, rows: list[Row], wanted: str | None) -> list[Row]:
    counts = Counter(_SPLITS.get(row.split.lower(), row.split.lower()) for row in rows)
    if wanted is None:
        if len(counts) > 1:
            held = ", ".join(f"{name or 'none'} {count}" for name, count in counts.items())
            raise VidsslError(
                f"{path}: holds several splits ({held}); name one, such as {path.name}#split={next(iter(counts))}"
            )
        return rows
    chosen = _SPLITS.get(wanted.lower(), wanted.lower())
    check_choice(
        "split", chosen, sorted(counts), f"{path}: " + "{name} {value!r}: not in it{guess} ({allowed})"
    )
    return [row for row in rows if _SPLITS.get(row.split.lower(), row.split.lower()) == chosen]


def _found(path: Path, rows: list[Row], rate: float | None, suffix: str = ".mp4") -> list[Line]:
    """Lines with the paths of the videos; the first key and `suffix` where there is none, which will be missing."""
    wanted = {key for row in rows for key in row.keys}
    known: dict[str, str] = {}
    for folder in (path.parent, path.parent.parent):
        if folder == Path(folder.anchor):
            break  # not through the whole machine
        for name in files_below(folder, DEPTH):
            key = _key(name, rate)
            if key in wanted:
                inside = str(PurePosixPath(name).parent) if rate is not None else name
                place = inside if folder == path.parent else str(folder / inside)
                known.setdefault(key, place if rate is None else with_rate(place, rate))
        if known:
            break
    lines = []
    for row in rows:
        place = next((known[key] for key in row.keys if key in known), row.keys[0] + suffix)
        lines.append(Line(row.number, place, row.label, None, row.part))
    return lines


def _key(name: str, rate: float | None) -> str | None:
    """What a file below the folder may be called in the annotations."""
    pure = PurePosixPath(name)
    if rate is not None:
        return pure.parent.name if is_picture_name(name) else None
    return pure.stem if is_video_name(name) else None
