"""Scores over the time of one video: which windows it is cut into, and the picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidssl.data.clips import Times, whole
from vidssl.errors import check_value
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from vidssl.files import whole_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI, LINES = 130, 6  # classes that are drawn
MOST = 2000  # windows


def windows_of(times: Times, seconds: float, every: float | None = None) -> list[tuple[float, float]]:
    """Start and end of the windows of a video, those of `uniform_clips` for as many clips.

    Args:
        times: (num_frames,) timestamps in seconds, ascending.
        seconds: length of a window, above 0; a shorter video has one, all of it.
        every: seconds from window to window, at most; None: half a window.

    Raises:
        VidsslError: for lengths that are not above 0, or more than `MOST` windows.
    """
    check_value("window", seconds, 0 < seconds < math.inf, "seconds above 0")
    every = seconds / 2 if every is None else every
    check_value("every", every, 0 < every < math.inf, "seconds above 0")
    start, stop = whole(times)
    seconds = min(seconds, stop - start)
    number = max(1, math.ceil((stop - start) / every)) if stop - start > seconds else 1
    check_value(
        "every", every, number <= MOST, f"at least {(stop - start) / MOST:.3g} s, for at most {MOST} windows"
    )
    lefts = [start + (place + 0.5) / number * (stop - start) - seconds / 2 for place in range(number)]
    return [(left, left + seconds) for left in (min(max(left, start), stop - seconds) for left in lefts)]


def filled(rows: Tensor, shown: Tensor) -> Tensor:
    """(V, D) rows, those of windows of the same frames as an earlier one taken from the last that was shown.

    Args:
        shown: (V,) bool, the first of which is.
    """
    last = torch.where(shown, torch.arange(len(shown)), 0).cummax(dim=0).values
    return rows[last]


def plot_over_time(over_time: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """Write the picture of ``over_time`` of a result of `classify`."""
    with whole_file(file) as partial:
        over_time_figure(over_time).savefig(partial, dpi=DPI, format="png")
    return file


def over_time_figure(over_time: Sequence[Mapping[str, Any]]) -> Figure:
    """Probability over the windows' middles of the classes that are the most probable somewhere, at most `LINES`, and the next."""
    highest: dict[str, float] = {}
    for window in over_time:
        for name, value in window["probabilities"].items():
            highest[name] = max(value, highest.get(name, 0.0))
    names = sorted(highest, key=lambda name: -highest[name])[:LINES]
    middles = [(window["start"] + window["end"]) / 2 for window in over_time]
    figure = new_figure(8, 3.2)
    axes = figure.add_subplot()
    styles = zip((BLUE, ORANGE, GREEN, PURPLE, BLACK, GREY), ("o", "s", "^", "v", "D", "x"), strict=True)
    for name, (colour, mark) in zip(names, styles, strict=False):
        values = [100 * window["probabilities"][name] for window in over_time]
        axes.plot(middles, values, color=colour, marker=mark, ms=4, label=shorten(name, 40, placeholder="…"))
    axes.set(xlabel="time (s)", ylabel="probability (%)", ylim=(-2, 102))
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure
