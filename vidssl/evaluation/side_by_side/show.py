"""Results side by side as a table on the screen, as CSV, and as a picture."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREY, new_figure
from vidssl.files import whole_file, write_json, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
COLUMNS = (
    "protocol", "task", "data", "row", "result", "score", "value", "low", "high", "std", "mean_class", "top5",
    "to", "difference", "difference_low", "difference_high", "over", "p", "p_holm", "file",
)  # fmt: skip


def write_comparison(record: Mapping[str, Any], folder: Path) -> list[Path]:
    """``compare.json``, ``compare.csv`` and, with matplotlib, ``compare.png`` in a folder."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table_rows(record))
    files = [write_json(folder / "compare.json", record), write_text(folder / "compare.csv", text.getvalue())]
    if find_spec("matplotlib") is not None:
        files.append(folder / "compare.png")
        with whole_file(files[-1]) as partial:
            comparison_figure(record).savefig(partial, dpi=DPI, format="png")
    return files


def table_rows(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each score, those of one protocol and row together, with the difference from the first of them."""
    found = []
    for one in record["results"]:
        for row, score in one["scores"].items():
            low, high = score["interval"] or (None, None)
            line = {key: one[key] for key in ("protocol", "task", "data", "score", "file")}
            line |= {"row": row, "result": one["label"], "value": score["value"], "low": low, "high": high}
            line |= {"std": score["spread"], "mean_class": score.get("mean_class"), "top5": score.get("top5")}
            found.append(line | _difference(record["comparisons"], row, one["label"]))
    order = list(record["protocols"])
    return sorted(found, key=lambda line: (order.index(line["protocol"]), line["row"]))


def _difference(comparisons: Sequence[Mapping[str, Any]], row: str, label: str) -> dict[str, Any]:
    for one in comparisons:
        if one["row"] == row and one["of"] == label and "difference" in one:
            low, high = one["interval"]
            return {
                "to": one["to"], "difference": one["difference"], "difference_low": low, "difference_high": high,
                "over": one["over"], "p": one["p"], "p_holm": one.get("p_holm"),
            }  # fmt: skip
    return {}


def show_comparison(record: Mapping[str, Any]) -> None:
    """The table, then what is not comparable, and in what it differs."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title="results side by side", title_justify="left")
    for column in (
        "",
        "row",
        "result",
        "score [95 %]",
        "mean class",
        "difference to the first [95 %]",
        "p, Holm",
    ):
        table.add_column(column, overflow="fold")
    last = None
    for line in table_rows(record):
        if last is not None and (line["protocol"], line["row"]) != last:
            table.add_section()
        last = (line["protocol"], line["row"])
        mean = "" if line["mean_class"] is None else f"{100 * line['mean_class']:.1f} %"
        table.add_row(
            line["protocol"], line["row"], line["result"], _value(line), mean, _points(line), _p(line)
        )
    console = Console(highlight=False)
    console.print(table)
    for said in notes(record):
        console.print(said, markup=False, soft_wrap=True)


def notes(record: Mapping[str, Any]) -> Iterator[str]:
    """Lines under the table."""
    for letter, protocol in record["protocols"].items():
        sets = dict.fromkeys(one["data"] for one in record["results"] if one["protocol"] == letter)
        yield f"{letter}: {protocol['task']} on {', '.join(sets)} (protocol {protocol['hash']})"
    for one in record["not_comparable"]:
        if "task" in one["differences"]:  # of another task all else is another too
            own, other = one["differences"]["task"]
            yield f"{one['protocol']} is not comparable with {one['to']}: {own} is another task than {other}"
            continue
        said = "; ".join(
            f"{name}: {_short(own)} instead of {_short(other)}"
            for name, (own, other) in one["differences"].items()
        )
        yield f"{one['protocol']} is not comparable with {one['to']}: {said}"
    lost = [one for one in record["comparisons"] if "difference" not in one]
    if lost:
        yield (
            f"{len(lost)} pairs are of one protocol, but do not say what was answered to each video (as {lost[0]['of']}, "
            f"{lost[0]['row']}): no paired test"
        )
    if record["comparisons"]:
        yield "p: McNemar's exact test, Holm's correction for all tests of this table; it takes videos for independent, the interval does not"


def _value(line: Mapping[str, Any]) -> str:
    value = f"{line['score']} {100 * line['value']:.1f} %"
    if line["std"] is not None:
        return f"{value} ± {100 * line['std']:.1f}"
    return value if line["low"] is None else f"{value} [{100 * line['low']:.1f}, {100 * line['high']:.1f}]"


def _points(line: Mapping[str, Any]) -> str:
    if line.get("difference") is None:
        return ""
    low, high = line["difference_low"], line["difference_high"]
    return f"{100 * line['difference']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}], {line['over']}"


def _p(line: Mapping[str, Any]) -> str:
    if line.get("p") is None:
        return ""
    return ", ".join("< 0.001" if p < 0.001 else f"{p:.2g}" for p in (line["p"], line["p_holm"]))


def _short(value: Any) -> str:
    return "nothing" if value is None else shorten(str(value), 60, placeholder=" …")


def comparison_figure(record: Mapping[str, Any]) -> Figure:
    """A panel for each protocol and row, whose scores share an axis: points with intervals of 95 %, chance dotted."""
    panels: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for line in table_rows(record):
        panels.setdefault((line["protocol"], line["row"]), []).append(line)
    chance = {one["protocol"]: one["chance"] for one in record["results"]}
    heights = [0.9 + 0.32 * len(lines) for lines in panels.values()]
    figure = new_figure(7.5, sum(heights))
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for ((letter, row), lines), axis in zip(panels.items(), axes, strict=True):
        for place, line in enumerate(lines):
            value = 100 * line["value"]
            if line["low"] is not None:
                axis.plot([100 * line["low"], 100 * line["high"]], [place, place], color=GREY, lw=2)
            elif line["std"] is not None:
                spread = 100 * line["std"]
                axis.plot([value - spread, value + spread], [place, place], color=GREY, lw=2)
            axis.plot([value], [place], "o", color=BLACK if place == 0 else BLUE)
        if chance[letter] is not None:
            axis.axvline(100 * chance[letter], color=GREY, ls=":")
        axis.set_yticks(
            range(len(lines)), [shorten(line["result"], 40, placeholder="…") for line in lines], fontsize=8
        )
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_xlim(0, 100)
        axis.set_title(
            shorten(f"{letter}: {lines[0]['task']}, {row}, {lines[0]['score']} (%)", 80),
            fontsize=9,
            loc="left",
        )
    return figure
