"""Accuracies of every row on every set, and differences to the best baseline with intervals over recordings."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from real_videos.cells import ROWS
from vidssl.evaluation.metrics import group_interval

UNTRAINED = "untrained head"
Record = Mapping[str, Any]


def right(found: str) -> Tensor:
    return torch.tensor([float(x) for x in found])


def of_seeds(record: Record, row: str, name: str, probe: str, state: str = "trained") -> dict[int, Tensor]:
    """Of every seed that is there, which of the clips are named."""
    cells = sorted((c for c in record["cells"] if c["row"] == row), key=lambda cell: cell["seed"])
    return {c["seed"]: right(c[state][name][probe]) for c in cells if probe in c[state].get(name, {})}


def of_row(record: Record, row: str, name: str, probe: str, state: str = "trained") -> list[Tensor]:
    """`of_seeds` without the seeds."""
    return list(of_seeds(record, row, name, probe, state).values())


def means(record: Record, name: str, probe: str) -> dict[str, Tensor]:
    """For each baseline, how often each clip is named; of the untrained head over the seeds of the row that has most of them."""
    found = {
        row: right(probes[probe]) for row, probes in record["baselines"][name].items() if probe in probes
    }
    untrained = max((of_row(record, row, name, probe, "untrained") for row in ROWS), key=len)
    return found | ({UNTRAINED: torch.stack(untrained).mean(0)} if untrained else {})


def table(record: Record, sets: Sequence[str], probe: str) -> str:
    """Markdown: accuracy in %, mean and range over seeds; in brackets less the best baseline of the set, with its interval over recordings."""
    lines = [f"| {probe}, % | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    below = {name: means(record, name, probe) for name in sets}
    best = {name: max(rows, key=lambda row: rows[row].mean()) for name, rows in below.items()}
    for row in dict.fromkeys(row for rows in below.values() for row in rows):
        shown = [
            f"**{100 * below[s][row].mean():.1f}**" if row == best[s] else f"{100 * below[s][row].mean():.1f}"
            if row in below[s] else "" for s in sets
        ]  # fmt: skip
        lines.append(f"| {row} | {' | '.join(shown)} |")
    for row in ROWS:
        cells = []
        for name in sets:
            seeds = of_row(record, row, name, probe)
            if not seeds:
                cells.append("")
                continue
            values = [100 * float(s.mean()) for s in seeds]
            change = torch.stack(seeds).mean(0) - below[name][best[name]]
            low, high = group_interval(change, torch.tensor(record["groups"][name]))
            spread = f" ({min(values):.1f} to {max(values):.1f})" if len(values) > 1 else ""
            cells.append(f"{statistics.fmean(values):.1f}{spread}; {100 * float(change.mean()):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")  # fmt: skip
        if any(cells):
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def pairs(record: Record, sets: Sequence[str], probe: str, first: str, others: Sequence[str]) -> str:
    """Markdown: a row less others, clip by clip on the same seeds, with intervals over recordings."""
    lines = [f"| {first} less, points | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
    for other in others:
        cells = []
        for name in sets:
            own, theirs = (of_seeds(record, row, name, probe) for row in (first, other))
            both = own.keys() & theirs.keys()
            if not both:
                cells.append("")
                continue
            change = torch.stack([own[seed] - theirs[seed] for seed in sorted(both)]).mean(0)
            low, high = group_interval(change, torch.tensor(record["groups"][name]))
            cells.append(f"{100 * float(change.mean()):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]")
        if any(cells):
            lines.append(f"| {other} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def figure(record: Record, sets: Sequence[str], probe: str, file: Path) -> None:
    """A panel for each set: a point for each seed, lines at the best baseline and at the untrained head."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in ROWS if any(of_row(record, row, s, probe) for s in sets)][::-1]
    canvas, axes = pyplot.subplots(1, len(sets), figsize=(2.6 * len(sets) + 2.4, 0.34 * len(rows) + 1.5), sharey=True, squeeze=False)  # fmt: skip
    for axis, name in zip(axes[0], sets, strict=True):
        below = {row: 100 * float(x.mean()) for row, x in means(record, name, probe).items()}
        for height, row in enumerate(rows):
            points = [100 * float(x.mean()) for x in of_row(record, row, name, probe)]
            colour = "tab:gray" if row.startswith("control") else "tab:blue"
            axis.plot(points, [height] * len(points), "o", markersize=5, alpha=0.7, color=colour)
        axis.axvline(max(below.values()), color="tab:red", linewidth=1.2)
        axis.axvline(below.get(UNTRAINED, max(below.values())), color="black", linestyle=":", linewidth=1)
        axis.set(title=name, xlabel="%", yticks=range(len(rows)), yticklabels=rows)
        axis.grid(axis="x", alpha=0.3)
    canvas.suptitle(f"{probe}: red, the best baseline; dotted, the untrained head", fontsize=9)
    canvas.tight_layout()
    canvas.savefig(file, dpi=110)
    pyplot.close(canvas)
