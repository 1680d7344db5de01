"""Results side by side: numbers of one protocol are compared, those of different ones are not, and why.

Two numbers are comparable when the hashes of their protocols are equal (`vidssl.evaluation.results.protocol`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import Any, NamedTuple

from vidssl.errors import VidsslError
from vidssl.evaluation.notes import random_weights
from vidssl.evaluation.report import Result
from vidssl.evaluation.results.protocol import VERSION, differences
from vidssl.evaluation.results.schema import read_result
from vidssl.evaluation.side_by_side.pairs import holm, paired, right_of

SCORE = {"retrieval": "R@1"}  # of other tasks: top1


class Entry(NamedTuple):
    """A result and what it is called."""

    file: str
    label: str
    result: Mapping[str, Any]


def compare(files: Sequence[str | Path], rows: Sequence[str] = ()) -> Result:
    """Results side by side.

    Args:
        files: of results with accuracies or recalls, at least two.
        rows: of their tables, such as ``untrained``; none: all that begin with ``trained``.

    Returns:
        JSON-able: `results` with their scores and the letter of their protocol; `protocols` by letter; `not_comparable`: in what
        other protocols differ from the first; `comparisons`: of every result with the first one of the same protocol and row, paired over
        videos, `p_holm` adjusted for the number of tests.

    Raises:
        VidsslError: for fewer than two files, one given twice, one that is no result or has no such scores, or rows that none has.
    """
    entries = _entries(files)
    protocols: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        protocols.setdefault(entry.result["protocol"]["hash"], entry.result["protocol"])
    letters = {digits: _letter(number) for number, digits in enumerate(protocols)}
    results = [_shown(entry, letters, rows) for entry in entries]
    if not any(one["scores"] for one in results):
        has = dict.fromkeys(row for entry in entries for row in entry.result["scores"])
        raise VidsslError(
            f"rows {', '.join(rows) or 'trained'}: no result has them (there are: {', '.join(has)})"
        )
    first, *others = protocols.values()
    return {
        "schema": f"compare/{VERSION}",
        "task": "compare",
        "results": results,
        "protocols": {letters[digits]: dict(protocol) for digits, protocol in protocols.items()},
        "not_comparable": [
            {
                "protocol": letters[other["hash"]],
                "to": letters[first["hash"]],
                "differences": {name: list(pair) for name, pair in differences(other, first).items()},
            }
            for other in others
        ],
        "comparisons": _comparisons(entries, results),
    }


def _entries(files: Sequence[str | Path]) -> list[Entry]:
    if len(files) < 2:
        raise VidsslError("compare: give at least two results")
    named = [str(file) for file in files]
    for file in named:
        if named.count(file) > 1:
            raise VidsslError(f"compare: {file} is given twice")
    results = [read_result(file) for file in named]
    for file, result in zip(named, results, strict=True):
        score = SCORE.get(str(result["task"]), "top1")
        if not any(isinstance(one, dict) and score in one for one in (result.get("scores") or {}).values()):
            raise VidsslError(f"{file}: a result of {result['task']} has no accuracies to compare")
    encoders = [
        f"{result['checkpoint']}{', random weights' if random_weights(first_of(result)) else ''}"
        for result in results
    ]
    return [
        Entry(file, encoder if encoders.count(encoder) == 1 else f"{encoder} ({Path(file).stem})", result)
        for file, encoder, result in zip(named, encoders, results, strict=True)
    ]


def first_of(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """That of the first of several splits, else the result itself."""
    first: Mapping[str, Any] = result["splits"][0] if "splits" in result else result
    return first


def _shown(entry: Entry, letters: Mapping[str, str], rows: Sequence[str]) -> dict[str, Any]:
    result, score = entry.result, SCORE.get(str(entry.result["task"]), "top1")
    scores = {
        row: {
            "value": one[score],
            "interval": one.get(f"{score}_interval"),
            "spread": one.get("std", one.get("top1_std")),
        }
        | {key: one[key] for key in ("mean_class", "top5", "calibration_error") if one.get(key) is not None}
        for row, one in result["scores"].items()
        if (row in rows if rows else row.startswith("trained"))
    }
    part = first_of(result)
    data = part.get("data") or part.get("val") or {}
    return {
        "file": entry.file,
        "label": entry.label,
        "checkpoint": str(result["checkpoint"]),
        "task": str(result["task"]),
        "data": str(data.get("path", "")),
        "protocol": letters[result["protocol"]["hash"]],
        "score": score,
        "chance": result["scores"].get("chance", {}).get(score),
        "scores": scores,
    }


def _comparisons(entries: Sequence[Entry], results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each result with the first of its protocol that has the row."""
    found: list[dict[str, Any]] = []
    references: dict[tuple[str, str], Entry] = {}
    for entry, shown in zip(entries, results, strict=True):
        for row in shown["scores"]:
            reference = references.setdefault((shown["protocol"], row), entry)
            if reference is entry:
                continue
            pair = {"row": row, "of": entry.label, "to": reference.label, "protocol": shown["protocol"]}
            second, first = right_of(entry.result, row), right_of(reference.result, row)
            record = None if second is None or first is None else paired(second, first)
            found.append({**pair, **(record or {})})
    tested = [one for one in found if one.get("p") is not None]
    for one, p in zip(tested, holm([one["p"] for one in tested]), strict=True):
        one["p_holm"] = p
    return found


def _letter(number: int) -> str:
    """A … Z, AA, AB, …"""
    more, rest = divmod(number, len(ascii_uppercase))
    return (_letter(more - 1) if more else "") + ascii_uppercase[rest]
