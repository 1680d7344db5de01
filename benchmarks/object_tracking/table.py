"""Scores of all rows, what training gains in pairs of one seed, and how alike the five tasks rank the rows."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from equal_budget.table import interval
from scipy.stats import spearmanr

from object_tracking.following import METRICS
from object_tracking.recipes import CONCEPT, DEMO, OBJECTIVES

Cell = dict[str, Any]
TRUTH, COPY, PLACE, PIXELS, VIT, UNTRAINED = (
    "true labels",
    "first label copied",
    "place alone",
    "raw pixels",
    "random ViT",
    "untrained",
)
PLAIN = (TRUTH, COPY, PLACE, PIXELS, VIT, UNTRAINED)
COLUMNS = [f"{task} {metric}" for task, metrics in METRICS.items() for metric in metrics]
FIRST = [f"{task} {metrics[0]}" for task, metrics in METRICS.items()]
BEATEN = (UNTRAINED, PIXELS, COPY)


def table(cells: Sequence[Cell]) -> str:
    """Markdown: scores; differences with intervals and how many tasks are won; rank correlations."""
    by_row: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells:
        by_row.setdefault(cell["row"], {})[cell["seed"]] = cell["scores"]
    rows = [row for row in (*PLAIN, *OBJECTIVES, *DEMO, CONCEPT) if row in by_row]
    lines = [
        "Points of 100, mean over seeds ± half of the 95 % t-interval.",
        "",
        f"| | {' | '.join(COLUMNS)} | seeds |",
        "|---" * (len(COLUMNS) + 2) + "|",
    ]
    for row in rows:
        found = [[scores[key] for scores in by_row[row].values() if key in scores] for key in COLUMNS]
        lines.append(
            f"| {row} | {' | '.join(interval(values) if values else '' for values in found)} | {len(by_row[row])} |"
        )
    lines += [
        "",
        "Trained less others on the same seeds; tasks won: higher than every one of the three in every seed.",
        "",
        f"| | less | {' | '.join(FIRST)} |",
        "|---" * (len(FIRST) + 2) + "|",
    ]
    won = {}
    for row in (row for row in rows if row in OBJECTIVES):
        gains = {
            (other, key): [
                scores[key] - by_row[other][seed][key]
                for seed, scores in by_row[row].items()
                if seed in by_row.get(other, {})
            ]
            for other in BEATEN
            for key in FIRST
        }
        for other in BEATEN:
            parts = [interval(gains[other, key]) if gains[other, key] else "" for key in FIRST]
            lines.append(f"| {row} | {other} | {' | '.join(parts)} |")
        won[row] = [
            key for key in FIRST if all(gain > 0 for other in BEATEN for gain in gains[other, key] or [0.0])
        ]
    lines += [
        "",
        *(
            f"{row}: {len(keys)} of 5 tasks won{' (' + ', '.join(keys) + ')' if keys else ''}."
            for row, keys in won.items()
        ),
    ]
    return (
        "\n".join([*lines, "", *_ranks(by_row, [row for row in rows if row not in (TRUTH, COPY, PLACE)])])
        + "\n"
    )


def _ranks(by_row: dict[str, dict[int, dict[str, float]]], rows: Sequence[str]) -> list[str]:
    """Spearman's correlation of two tasks over the rows with features, of means over seeds."""
    if len(rows) < 3:
        return []
    means = {
        key: [statistics.fmean(scores[key] for scores in by_row[row].values()) for row in rows]
        for key in FIRST
    }
    lines = [
        f"Spearman's rank correlation of tasks over {len(rows)} rows with features:",
        "",
        f"| | {' | '.join(FIRST)} |",
        "|---" * (len(FIRST) + 1) + "|",
    ]
    for key in FIRST:
        parts = [f"{spearmanr(means[key], means[other]).statistic:.2f}" for other in FIRST]
        lines.append(f"| {key} | {' | '.join(parts)} |")
    return lines
