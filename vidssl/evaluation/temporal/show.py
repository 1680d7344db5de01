"""What an encoder knows of time, as a table, sentences, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl.evaluation.comparison import format_comparison
from vidssl.evaluation.dynamics.plots import write_drawn
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREY, new_figure
from vidssl.evaluation.metrics import format_score
from vidssl.evaluation.notes import result_notes, row_title

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_report(result: Mapping[str, Any], folder: str | Path, *, plots: bool = True) -> list[str]:
    """Write JSON and picture into `folder`, see `write_drawn`; the names of the files.

    Raises:
        VidsslError: for `plots` without matplotlib.
    """
    return write_drawn(result, folder, "temporal", temporal_figure, plots)


def questions_of(result: Mapping[str, Any]) -> list[str]:
    """What was asked, with how it was shown behind it, in the order of the table."""
    names = [name.partition(", ")[2] for name in result["scores"] if not name.startswith("chance")]
    return list(dict.fromkeys(names))


def show_temporal(title: str, result: Mapping[str, Any]) -> None:
    """The table, then what is lost when less is shown, and what has to be said."""
    from rich.console import Console
    from rich.table import Table

    scores = result["scores"]
    encoders = [name for name in ("trained", "untrained") if f"{name}, {questions_of(result)[0]}" in scores]
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for name in (*encoders, "chance"):
        table.add_column(row_title(name, result), justify="right")
    for question in questions_of(result):
        asked = question.partition(",")[0]
        cells = [format_score(scores[f"{name}, {question}"]) for name in encoders]
        table.add_row(question, *cells, format_score(scores[f"chance, {asked}"]))
    console = Console(highlight=False)
    console.print(table)
    for name, others in result["gaps"].items():
        for record in others.values():
            if name.startswith("trained"):
                console.print(format_comparison(name, record), markup=False, soft_wrap=True)
    for line in result_notes(result):
        console.print(line, markup=False, soft_wrap=True)


def temporal_figure(result: Mapping[str, Any]) -> Figure:
    """Accuracies with their intervals, a row for each question; a dashed line at chance."""
    questions, scores = questions_of(result), result["scores"]
    figure = new_figure(8, 0.9 + 0.38 * len(questions))
    axes = figure.add_subplot()
    marks = (("trained", "o", BLUE, -0.12), ("untrained", "s", GREY, 0.12))
    for encoder, mark, colour, shift in marks:
        rows = [(place, scores.get(f"{encoder}, {question}")) for place, question in enumerate(questions)]
        for place, score in rows:
            if score is not None:
                low, high = (100 * x for x in score["top1_interval"])
                axes.plot([low, high], [place + shift] * 2, color=colour, linewidth=1.5)
        found = [(100 * score["top1"], place + shift) for place, score in rows if score is not None]
        if found:
            axes.plot(*zip(*found, strict=True), mark, color=colour, label=encoder)
    for place, question in enumerate(questions):
        chance = 100 * scores[f"chance, {question.partition(',')[0]}"]["top1"]
        axes.plot(
            [chance] * 2,
            [place - 0.4, place + 0.4],
            "--",
            color=BLACK,
            linewidth=1,
            label="chance" if not place else None,
        )
    axes.set_yticks(range(len(questions)), questions)
    axes.invert_yaxis()
    axes.set_xlim(0, 102)
    axes.set_xlabel("accuracy, %, with 95 % interval over videos")
    axes.legend(loc="best", frameon=False)
    return figure
