"""The geometry of features as tables, sentences, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vidssl.errors import counted
from vidssl.evaluation.dynamics.plots import write_drawn
from vidssl.evaluation.dynamics.style import new_figure
from vidssl.evaluation.notes import result_notes, row_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = {
    "rankme": "RankMe",
    "lidar": "LiDAR",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "spectrum_exponent": "spectrum exponent",
}


def write_report(result: Mapping[str, Any], folder: str | Path, *, plots: bool = True) -> list[str]:
    """Write JSON and picture into `folder`, see `write_drawn`; the names of the files.

    Raises:
        VidsslError: for `plots` without matplotlib.
    """
    return write_drawn(result, folder, "geometry", geometry_figure, plots)


def show_geometry(title: str, result: Mapping[str, Any]) -> None:
    """A row for each encoder, then likeness, drift, and what has to be said."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in (*COLUMNS.values(), "dimensions"):
        table.add_column(column, justify="right")
    for name, row in result["rows"].items():
        table.add_row(row_title(name, result), *(_shown(row[key]) for key in COLUMNS), str(row["dimensions"]))
    console = Console(highlight=False)
    console.print(table)
    for line in geometry_lines(result):
        console.print(line, markup=False, soft_wrap=True)


def geometry_lines(result: Mapping[str, Any]) -> list[str]:
    """What is said under the table."""
    own = result["rows"]["trained"]
    lines = [f"{counted(own['videos'], 'video')}, {own['whole']} of them in all their clips"]
    cka, drift = result["cka"], result["drift"]
    for name, value in cka["encoders"]["trained"].items():
        if name != "trained":
            lines.append(
                f"CKA of trained and {name}, of their outputs on {counted(cka['videos'], 'video')}: {_shown(value, 3)}"
            )
    if drift is not None:
        weights, features = drift["weights"], drift["features"]
        parts = {name: moved for name, moved in weights["parts"].items() if moved is not None}
        most = max(parts, key=lambda name: parts[name], default=None)
        said = "" if most is None else f", most in {most} ({100 * parts[most]:.1f} %)"
        relative = (
            ""
            if weights["relative"] is None
            else f"weights moved by {100 * weights['relative']:.1f} % of their length{said}; "
        )
        lines.append(
            f"since the start: {relative}CKA of features {_shown(features['cka'], 3)}, mean cosine {_shown(features['cosine'], 3)}"
        )
    return [*lines, *result_notes(result)]


def geometry_figure(result: Mapping[str, Any]) -> Figure:
    """CKA of the layers of each encoder with each other, and of the trained one's with those of the start."""
    cka = result["cka"]
    panels: list[tuple[str, Sequence[Sequence[float | None]], Sequence[str], Sequence[str]]] = [
        (name, own["cka"], own["names"], own["names"]) for name, own in cka["layers"].items()
    ]
    if cka["start"] is not None:
        names = cka["layers"]["trained"]["names"], cka["layers"]["untrained"]["names"]
        panels.insert(1, ("trained (down), untrained (across)", cka["start"], *names))
    figure = new_figure(3.4 * len(panels) + 0.6, 3.6)
    for place, (title, matrix, down, across) in enumerate(panels, 1):
        axes = figure.add_subplot(1, len(panels), place)
        values = np.array([[np.nan if x is None else x for x in row] for row in matrix])
        axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
        axes.set_title(title, fontsize=9)
        for ticks, labels in ((axes.set_xticks, across), (axes.set_yticks, down)):
            chosen = sorted({0, len(labels) // 2, len(labels) - 1})
            ticks(chosen, [labels[i] for i in chosen])
        if len(down) <= 8:
            for i, row in enumerate(values):
                for j, value in enumerate(row):
                    axes.text(
                        j,
                        i,
                        f"{value:.2f}",
                        ha="center",
                        va="center",
                        fontsize=6,
                        color="white" if value < 0.6 else "black",
                    )
    figure.colorbar(figure.axes[-1].images[0], ax=figure.axes, label="linear CKA of layers")
    return figure


def _shown(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
