"""Scores of sequences → means with their uncertainty, differences to the baselines, and the table on the screen.

A mean is over objects (vos, pose) or sequences; the uncertainty is of the choice of sequences, which is what is resampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import counted
from vidssl.evaluation.tracking.run.task import Scores

RESAMPLES = 2000
SHOWN = 4  # metrics in the table on the screen; the result file has all
LINES = 20  # of one kind on the screen
Units = Mapping[str, Sequence[Scores]]  # sequence -> scores of its objects


def summarise(units: Units, metrics: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """Mean of every metric that all have over all objects, and for at least two sequences 95 % of the means of resampled sequences.

    Returns:
        `mean` and `interval` by metric, `objects`, `sequences`: their own means.
    """
    every = [scores for own in units.values() for scores in own]
    metrics = [metric for metric in metrics if all(metric in scores for scores in every)]
    rows = {
        name: np.array([[scores[m] for m in metrics] for scores in own]) for name, own in units.items() if own
    }
    draws = _draws(len(rows), seed)
    record: dict[str, Any] = {"mean": {}, "interval": {}, "objects": sum(map(len, rows.values()))}
    if rows:
        sums = np.stack([own.sum(0) for own in rows.values()])
        counts = np.array([len(own) for own in rows.values()])
        record["mean"] = dict(zip(metrics, (sums.sum(0) / counts.sum()).tolist(), strict=True))
        if len(rows) > 1:
            means = sums[draws].sum(1) / counts[draws].sum(1)[:, None]
            low, high = np.quantile(means, [0.025, 0.975], axis=0)
            record["interval"] = {m: [float(a), float(b)] for m, a, b in zip(metrics, low, high, strict=True)}
    record["sequences"] = {
        name: dict(zip(metrics, own.mean(0).tolist(), strict=True)) for name, own in rows.items()
    }
    return record


def difference(first: Units, second: Units, metric: str, seed: int = 0) -> dict[str, Any]:
    """Mean of a metric of the first minus that of the second, over the same sequences, resampled together.

    Returns:
        `difference`, and `interval` for at least two sequences.
    """
    names = [name for name in first if first[name] and second.get(name)]
    sums = np.array([[sum(s[metric] for s in units[name]) for name in names] for units in (first, second)])
    counts = np.array([[len(units[name]) for name in names] for units in (first, second)])
    mean = sums.sum(1) / counts.sum(1)
    record: dict[str, Any] = {"metric": metric, "difference": float(mean[0] - mean[1]), "interval": None}
    if len(names) > 1:
        draws = _draws(len(names), seed)
        means = sums[:, draws].sum(-1) / counts[:, draws].sum(-1)
        record["interval"] = np.quantile(means[0] - means[1], [0.025, 0.975]).tolist()
    return record


def _draws(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, max(count, 1), (RESAMPLES, count))


def show_track(title: str, result: Mapping[str, Any]) -> None:
    """The table of means, that of the deciding metric by sequence, and what has to be said of them."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    metrics, counts = result["metrics"], result["counts"]
    means = Table(title=title, title_justify="left")
    means.add_column("", no_wrap=True)
    for metric in metrics[:SHOWN]:
        means.add_column(metric, justify="right", no_wrap=metric == metrics[0])
    for name, row in result["scores"].items():
        means.add_row(name, *(_cell(row, metric, metric in counts) for metric in metrics[:SHOWN]))
    if result["data"]["scored"]:
        console.print(means)
    sequences = list(dict.fromkeys(name for row in result["scores"].values() for name in row["sequences"]))
    if len(sequences) > 1:
        by_sequence = Table(title=f"{metrics[0]} by sequence", title_justify="left")
        by_sequence.add_column("")
        for row_name in result["scores"]:
            by_sequence.add_column(row_name, justify="right")
        for name in sequences[:LINES]:
            values = (row["sequences"].get(name, {}).get(metrics[0]) for row in result["scores"].values())
            by_sequence.add_row(name, *("–" if value is None else f"{100 * value:.1f}" for value in values))
        console.print(by_sequence)
    for line in notes(result):
        console.print(line, markup=False, soft_wrap=True)


def _cell(row: Mapping[str, Any], metric: str, count: bool) -> str:
    """A mean, and of the first metric its interval."""
    value = row["mean"].get(metric)
    if value is None:
        return "–"
    scale = 1 if count else 100
    bounds = [f"{scale * bound:.1f}" for bound in row["interval"].get(metric, ())]
    interval = f" [{', '.join(bounds)}]" if bounds and metric == next(iter(row["mean"])) else ""
    return f"{scale * value:.1f}{interval}"


def notes(result: Mapping[str, Any]) -> list[str]:
    """What has to be said under the table: protocol, differences, and every sequence that is not in the numbers."""
    settings, data = result["settings"], result["data"]
    said = [f"{key} {value}" for key, value in settings.items() if key != "task" and value is not None]
    lines = [f"protocol: {', '.join(said)} (hash {result['protocol']['hash']})"]
    if any(row["interval"] for row in result["scores"].values()):
        lines.append("in brackets: 95 % of the means of resampled sequences")
    for other, record in result["comparisons"].items():
        bounds = [f"{100 * bound:+.1f}" for bound in record["interval"] or ()]
        spread = f" [{', '.join(bounds)}]" if bounds else ""
        lines.append(
            f"encoder - {other}: {100 * record['difference']:+.1f} points of {record['metric']}{spread}"
        )
    if data["scored"]:
        lines += result["notes"]
    for name, row in result["scores"].items():
        if row["not_finite"]:
            lines.append(f"{name}: no number, its features of {', '.join(row['not_finite'])} are not finite")
    if data["scored"] or data["lacking"] or data["failed"]:
        lines.append(
            f"{data['scored']} of {counted(data['sequences'], 'sequence')} scored, {counted(data['frames'], 'frame')}"
        )
    for key, what in (
        ("remarks", ""),
        ("unscored", "nothing to score: "),
        ("lacking", "left out: "),
        ("failed", "failed: "),
    ):
        rest = [f"{what}{record['path']}: {record['reason']}" for record in data[key]]
        lines += rest[:LINES] + (
            [f"  … and {len(rest) - LINES} more, in the result file"] if len(rest) > LINES else []
        )
    return lines
