"""The log of runs: which quantities are drawn, what looked collapsed, and what was skipped."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from vidssl.data.manifest.quarantine import Quarantine
from vidssl.errors import VidsslError
from vidssl.models.export import read_encoder
from vidssl.reporting.charts import Line, lines
from vidssl.runs import CONFIG, INITIAL
from vidssl.training.folder import QUARANTINE
from vidssl.training.listing import LOG, RunRecord
from vidssl.training.report import warning

# Drawn in this order where a run has them; then what else belongs to its objectives, up to so many charts.
FIRST = (
    "loss",
    "evaluation/knn",
    "evaluation/zero_shot",
    "features/rankme",
    "features/std",
    "lr",
    "grad_norm",
)
CHARTS = 12


def curves(runs: Sequence[RunRecord]) -> list[Markup]:
    """A chart for each quantity, one line a run."""
    logged = dict.fromkeys(name for run in runs for name in run.logs)
    chosen = [name for name in FIRST if name in logged]
    chosen += [name for name in logged if name.startswith("evaluation/") and name not in chosen]
    chosen += [name for name in logged if _of_an_objective(name) and not _is_the_loss(name, runs)]
    charts = []
    for name in chosen[:CHARTS]:
        series = [
            Line(run.folder.name, *map(list, zip(*run.logs[name], strict=True)))  # type: ignore[arg-type]
            for run in runs
            if run.logs.get(name)
        ]
        charts.append(lines(series, name, "step"))
    return [chart for chart in charts if chart]


def _of_an_objective(name: str) -> bool:
    return "/" in name and name.partition("/")[0] not in ("features", "evaluation")


def _is_the_loss(name: str, runs: Sequence[RunRecord]) -> bool:
    """Whether a single objective's loss is all there is to the loss."""
    return name.endswith("/loss") and all(run.logs.get(name) == run.logs.get("loss") for run in runs)


def troubles(run: RunRecord) -> list[str]:
    """Lines on what was collapsed, skipped, not finite or replaced in a run; empty where nothing was."""
    said = [f"state: {run.state}"] if run.state not in ("done", "running") else []
    rows = list(_rows(run.folder / LOG))
    collapsed = _collapsed(run.folder, rows)
    if collapsed:
        steps, sentence = [step for step, _ in collapsed], collapsed[-1][1]
        said.append(
            f"{len(steps)} of {len(rows)} logged steps looked collapsed, the first {steps[0]}, the last {steps[-1]}: {sentence}"
        )
    skipped = [row for row in rows if row.get("skipped")]
    for row in skipped[:20]:
        videos = row.get("skipped_videos")
        shown = ", ".join(map(str, videos[:3])) if isinstance(videos, list) else ""
        said.append(
            f"step {row['step']} was skipped, its loss or gradient was not finite{f' (videos {shown}, …)' if shown else ''}"
        )
    if len(skipped) > 20:
        said.append(f"… and {len(skipped) - 20} more skipped steps")
    empty = [row["step"] for row in rows if "loss" in row and row["loss"] is None]
    if empty:
        said.append(f"the loss was not finite in {len(empty)} logged steps, the first {empty[0]}")
    return said + _quarantined(run.folder / QUARANTINE)


def _rows(file: Path) -> Iterator[dict[str, Any]]:
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
            row["step"] = int(row["step"])
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
        yield row


def _collapsed(folder: Path, rows: Sequence[dict[str, Any]]) -> list[tuple[int, str]]:
    try:
        dim = read_encoder(folder / INITIAL).embed_dim
    except (VidsslError, OSError):
        return []
    found = []
    for row in rows:
        numbers = {
            name: float(value)
            for name, value in row.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }
        said = None if row.get("skipped") else warning(numbers, dim)
        if said:
            found.append((row["step"], said))
    return found


def _quarantined(file: Path) -> list[str]:
    try:
        rows = list(Quarantine(file).rows.values())
    except (OSError, ValueError, TypeError, csv.Error):
        return [f"{file.name}: cannot be read"]
    said = [
        f"{row.path}: {row.cause} "
        + (f"(replaced in {row.times} clips)" if row.first_step else "(left out before the first step)")
        for row in rows[:50]
    ]
    return said + ([f"… and {len(rows) - 50} more videos in {file.name}"] if len(rows) > 50 else [])


def recipe_text(run: RunRecord) -> str:
    """The resolved recipe as it lies in the run folder; empty where it cannot be read."""
    try:
        return (run.folder / CONFIG).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
