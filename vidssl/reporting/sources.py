"""What a report is made from: run folders and result files, read as untrusted data. One that is broken is named, and never
loses the others."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vidssl.errors import VidsslError
from vidssl.runs import CONFIG
from vidssl.training.listing import RunRecord, find_runs

RESULTS = "results"  # in a run folder
MOST = 64 << 20  # bytes of a result file


@dataclass(frozen=True)
class Material:
    """What was found.

    Attributes:
        runs: with their logs and recipes.
        results: file and content of each result, in the order of their names.
        broken: a line for each file that is no result or cannot be read.
    """

    runs: list[RunRecord] = field(default_factory=list)
    results: list[tuple[Path, dict[str, Any]]] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)


def read_sources(sources: Sequence[str | Path]) -> Material:
    """Read runs, with the results in them, and result files.

    Args:
        sources: folders with runs in them, however deep, and JSON files that evaluations wrote.

    Raises:
        VidsslError: for a source that is not there, a folder without runs and results, or a named file that is no result.
    """
    found = Material()
    if not sources:
        raise VidsslError("report: name at least one run folder or result file")
    for source in map(Path, sources):
        if source.is_file():
            result = _read(source)
            if isinstance(result, str):
                raise VidsslError(result)
            _add(found, source, result)
        elif source.is_dir():
            _read_folder(found, source)
        else:
            raise VidsslError(f"{source}: no such file or folder; expected a run or a result (.json)")
    return found


def _read_folder(found: Material, folder: Path) -> None:
    try:
        runs = find_runs([folder])
    except VidsslError:
        runs = []
    folders = [run.folder / RESULTS for run in runs] or [folder]
    before = len(found.results) + len(found.broken)
    for place in folders:
        for file in sorted([*place.glob("*.json"), *place.glob("*/*.json")]):
            result = _read(file)
            if isinstance(result, str):
                found.broken.append(result)
            else:
                _add(found, file, result)
    found.runs.extend(run for run in runs if run.folder not in [known.folder for known in found.runs])
    if not runs and len(found.results) + len(found.broken) == before:
        raise VidsslError(f"{folder}: neither a run (a folder with {CONFIG}) nor results (.json) in it")


def _add(found: Material, file: Path, result: dict[str, Any]) -> None:
    if file.resolve() not in [known.resolve() for known, _ in found.results]:
        found.results.append((file, result))


def _read(file: Path) -> dict[str, Any] | str:
    """The result in a file, or the line that says why there is none."""
    try:
        if file.stat().st_size > MOST:
            return f"{file}: too large for a result ({file.stat().st_size / 1e6:.0f} MB)"
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        return f"{file}: cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return f"{file}: is not JSON"
    if not isinstance(content, Mapping) or not isinstance(content.get("task"), str):
        return f"{file}: is no result of an evaluation (it names no task)"
    return dict(content)
