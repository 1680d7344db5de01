"""Results of evaluations: every trained number beside its baselines with their intervals, and what was taken for what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vidssl.evaluation.answers.confusion import NO_ANSWER, confusion_matrix, names_of
from vidssl.evaluation.metrics import format_score
from vidssl.evaluation.notes import result_notes
from vidssl.reporting.charts import Bar, bars, matrix

KINDS = {"trained": 0, "untrained": 1, "motion energy": 2, "majority class": 5, "chance": 5}
OTHER = 3
MATRIX, PAIRS = 24, 8  # classes in a matrix at most; confused pairs in words


@dataclass
class Block:
    """One result on the page."""

    title: str
    file: str
    charts: list[Markup] = field(default_factory=list)
    table: tuple[list[str], list[list[str]]] | None = None
    notes: list[str] = field(default_factory=list)


def data_of(result: Mapping[str, Any]) -> str:
    """The data that a result was measured on, as it names them."""
    record = result.get("val") or result.get("data") or (result.get("splits") or [{}])[0]
    record = record.get("val") or record.get("data") or record
    return str(record["path"])


def title_of(result: Mapping[str, Any]) -> str:
    """Its protocol, and the last two folders of its data."""
    return f"{result['task']} on {'/'.join(Path(data_of(result)).parts[-2:])}"


def block(file: Path, result: Mapping[str, Any]) -> Block:
    """What is shown of a result with `scores`.

    Raises:
        KeyError, TypeError, ValueError: for a result of another form than its task has.
    """
    found = Block(title_of(result), f"{result['checkpoint']}: {file}")
    if "metrics" in result:
        found.table = _means(result)
        found.notes = [str(note) for note in result.get("notes", ())]
        return found
    rows = [bar for name, score in result["scores"].items() if (bar := _bar(name, score)) is not None]
    if not rows:
        raise KeyError("top1")
    first = next(iter(result["scores"].values()))
    measure = "R@1" if "R@1" in first else "top-1 accuracy"
    found.charts = [bars(rows, f"{measure}, %, with {_whiskers(first)}")]
    for name, counts in _confusions(result).items():
        chart, pairs = _confused(counts, names_of(result["classes"]))
        found.charts += [chart] if chart else []
        found.notes += [f"{name}: most often taken for another: {pairs}"] if pairs else []
    if "splits" not in result:
        found.notes += result_notes(result)
    return found


def summary(result: Mapping[str, Any], name_it: bool = False) -> list[list[str]]:
    """Rows of the table at the top: protocol and data, trained, untrained, best other baseline, difference to untrained.

    Args:
        name_it: say whose result it is, where there are those of several encoders.
    """
    table, scores = [], result["scores"]
    whose = f"{Path(str(result['checkpoint'])).name}: " if name_it else ""
    for name, score in scores.items():
        if name != "trained" and not name.startswith("trained,"):
            continue
        suffix = name.removeprefix("trained")
        others = {
            other: row
            for other, row in scores.items()
            if other in KINDS or other == f"motion energy{suffix}"
            if other.partition(",")[0] not in ("trained", "untrained")
            if _top(row) is not None
        }
        best = max(others, key=lambda other: _top(others[other]) or 0.0, default=None)
        untrained = scores.get(f"un{name}")
        compared = result.get("comparisons", {}).get(name)
        table.append(
            [
                f"{whose}{title_of(result)}{suffix}",
                _said(score),
                "" if untrained is None else _said(untrained),
                "" if best is None else f"{best}: {_said(others[best])}",
                "" if compared is None else _difference(compared),
            ]
        )
    return table


def _top(score: Mapping[str, Any]) -> float | None:
    value = score.get("top1", score.get("R@1"))
    return float(value) if value is not None and math.isfinite(value) else None


def _interval(score: Mapping[str, Any]) -> tuple[float, float] | None:
    given = score.get("top1_interval", score.get("R@1_interval"))
    drawn = score.get("top1_draws", score.get("top1_splits"))
    if given is None and drawn:
        given = (min(drawn), max(drawn))
    return None if given is None else (float(given[0]), float(given[1]))


def _bar(name: str, score: Mapping[str, Any]) -> Bar | None:
    value, kind = _top(score), KINDS.get(name.partition(",")[0], OTHER)
    return None if value is None else Bar(name, value, _interval(score), kind)


def _whiskers(score: Mapping[str, Any]) -> str:
    if "top1_draws" in score:
        return "the lowest and highest of the draws"
    if "top1_splits" in score:
        return "the lowest and highest of the splits"
    over = score.get("interval_over")
    return f"95 % intervals{f' over {over}' if over else ''}"


def _said(score: Mapping[str, Any]) -> str:
    if "R@1" in score:
        interval = {} if "R@1_interval" not in score else {"top1_interval": score["R@1_interval"]}
        return format_score({"top1": score["R@1"], **interval})
    if "std" in score:
        return format_score({"top1": score["top1"], "top1_std": score["std"]})
    return format_score(dict(score))


def _difference(compared: Mapping[str, Any]) -> str:
    low, high = compared["interval"]
    return f"{100 * compared['difference']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"


def _confusions(result: Mapping[str, Any]) -> dict[str, NDArray[np.int64]]:
    """Of the trained encoder, at most two of them: plain zero-shot and debiased; of several k the one in the middle.

    Raises:
        ValueError: for answers that are no classes of the result.
    """
    answers = result.get("answers") or {}
    given = {name: row for name, row in (answers.get("answered") or {}).items() if name.startswith("trained")}
    names = list(given) if len(given) <= 2 else [list(given)[len(given) // 2]]
    classes, true = len(result["classes"]["names"]) if given else 0, answers.get("truth", ())
    if given and not all(0 <= label < len(names_of(result["classes"])) for label in true):
        raise ValueError("answers: labels that are no classes")
    return {name: confusion_matrix(true, given[name], classes) for name in names}


def _confused(counts: NDArray[np.int64], names: Sequence[str]) -> tuple[Markup, str]:
    """The matrix of classes that have videos or were answered, where there are few, and the most frequent mistakes."""
    answers = [*names[: counts.shape[1] - 1], NO_ANSWER]
    table = {
        name: {answer: int(count) for answer, count in zip(answers, row, strict=True) if count}
        for name, row in zip(names, counts, strict=False)
        if row.any()
    }
    columns = [answer for place, answer in enumerate(answers) if counts[:, place].any() or answer in table]
    chart = matrix(list(table), columns, table) if max(len(columns), len(table)) <= MATRIX else Markup("")
    pairs = sorted(
        ((count, name, answer) for name, row in table.items() for answer, count in row.items() if name != answer),
        key=lambda pair: -pair[0],
    )  # fmt: skip
    total = {name: sum(row.values()) for name, row in table.items()}
    said = [f"{name} for {answer} ({count} of {total[name]})" for count, name, answer in pairs[:PAIRS]]
    return chart, "; ".join(said)


def _means(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Tracking: means of the first metrics over sequences."""
    metrics: Sequence[str] = result["metrics"][:4]
    rows = []
    for name, record in result["scores"].items():
        cells = []
        for metric in metrics:
            value, interval = record["mean"].get(metric), record["interval"].get(metric)
            said = "" if value is None else f"{value:.3g}"
            cells.append(said + ("" if interval is None else f" [{interval[0]:.3g}, {interval[1]:.3g}]"))
        rows.append([name, *cells])
    return ["", *metrics], rows
