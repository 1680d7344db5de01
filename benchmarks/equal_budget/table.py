"""Gains over the untrained encoder and differences to InfoNCE, paired by seed, as a table and as a figure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from equal_budget.recipes import FOUR_FRAMES, ROWS, needs_clip

# Student's t, 97.5 %, by the number of seeds.
QUANTILES = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
Cell = dict[str, Any]


def interval(values: Sequence[float]) -> str:
    """Mean of shares in points, ± the half width of its 95 % t-interval."""
    mean = 100 * statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = QUANTILES[len(values)] * 100 * statistics.stdev(values) / len(values) ** 0.5
    return f"{mean:.1f} ± {half:.1f}"


def gains(cells: Sequence[Cell], row: str, key: str) -> dict[int, float]:
    """By seed: accuracy of the trained encoder less that of the untrained one."""
    own = {cell["seed"]: cell["scores"] for cell in cells if cell["row"] == row}
    return {seed: scores["trained"][key] - scores["untrained"][key] for seed, scores in sorted(own.items())}


def table(cells: Sequence[Cell], baselines: dict[str, float], reference: str = "infonce") -> str:
    """Markdown: a row for each objective; for each probe the gain, and the difference to the reference on the same seeds."""
    probes = list(cells[0]["scores"]["trained"])
    starts: dict[str, dict[int, dict[str, float]]] = {}
    for cell in cells:
        row = ROWS[cell["row"]]
        if row.control != "time":
            alone = "CLIP of single frames" if needs_clip(cell["row"]) else "untrained encoder"
            name = f"{alone} itself" + (", chunks" if row.model == FOUR_FRAMES else "")
            starts.setdefault(name, {})[cell["seed"]] = cell["scores"]["untrained"]
    header = [cell for key in probes for cell in (key, f"less {reference}")]
    lines = [f"| gain of | {' | '.join(header)} | seeds |", "|---" * (len(header) + 2) + "|"]
    for name, untrained in sorted(starts.items()):
        start = [cell for key in probes for cell in (interval([s[key] for s in untrained.values()]), "")]
        lines.append(f"| (the {name}) | {' | '.join(start)} | {len(untrained)} |")
    other = {key: gains(cells, reference, key) for key in probes}
    for row in ROWS:
        if not (count := len(gains(cells, row, probes[0]))):
            continue
        parts = []
        for key in probes:
            own = gains(cells, row, key)
            shared = [own[seed] - other[key][seed] for seed in own if seed in other[key]]
            parts += [interval(list(own.values())), interval(shared) if shared and row != reference else ""]
        lines.append(f"| {row} | {' | '.join(parts)} | {count} |")
    lines += [
        "",
        "Baselines without learning: " + ", ".join(f"{k} {100 * v:.1f}" for k, v in baselines.items()) + ".",
    ]
    return "\n".join(lines) + "\n"


def figure(cells: Sequence[Cell], file: Path, kind: str = "linear") -> None:
    """A panel for each set, a line for each objective, a point for each seed, and a bar at their mean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    keys = [key for key in cells[0]["scores"]["trained"] if key.endswith(f" {kind}")]
    rows = [row for row in ROWS if gains(cells, row, keys[0])][::-1]
    canvas, axes = pyplot.subplots(
        1, len(keys), figsize=(3.2 * len(keys) + 2.2, 0.3 * len(rows) + 1.2), sharey=True, squeeze=False
    )
    for axis, key in zip(axes[0], keys, strict=True):
        for height, row in enumerate(rows):
            points = [100 * gain for gain in gains(cells, row, key).values()]
            colour = "tab:gray" if row.startswith("control") else "tab:blue"
            axis.plot(
                points, [height] * len(points), "o", markersize=4, alpha=0.6, color=colour, markeredgewidth=0
            )
            axis.plot(statistics.fmean(points), height, "|", markersize=11, color=colour)
        axis.axvline(0, color="black", linewidth=0.8)
        axis.set(
            title=key,
            xlabel="points over untrained",
            yticks=range(len(rows)),
            yticklabels=rows,
        )
        axis.grid(axis="x", alpha=0.3)
    canvas.tight_layout()
    canvas.savefig(file, dpi=110)
    pyplot.close(canvas)
