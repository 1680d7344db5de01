"""The demo in one picture: what was learned, how, and what it looks like."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor

from vidssl.data.decode.open import open_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.demo.embedding import embed
from vidssl.demo.forecast import SEEN, FrameForecast
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.dynamics.plots import check_matplotlib
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREEN, GREY, ORANGE, PURPLE, new_figure
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.setup import load_subject

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "demo.png"
DPI = 110
# Colours and marks of the classes, in the order of their names: opposite motions have one colour.
LOOKS = (
    (GREEN, "o"), (BLUE, "o"), (ORANGE, "o"), (ORANGE, "x"), (BLUE, "x"), (GREEN, "x"), (PURPLE, "o"), (PURPLE, "x"),
)  # fmt: skip
QUERIES, NEIGHBOURS, SHOWN = 3, 3, 4  # videos, nearest others of each, frames of each


def draw(
    folder: Path, results: Mapping[str, Any], forecast: FrameForecast, options: EvalOptions
) -> Path | None:
    """Draw a finished demo.

    Args:
        folder: of the demo.
        results: its ``linear-probe`` and ``zero-shot``.
        forecast: to draw.
        options: how videos are shown to the encoder.

    Returns:
        The file; None where matplotlib is missing, which is said.
    """
    try:
        check_matplotlib()
    except VidsslError as error:
        typer.echo(f"no picture: {str(error).split(', or leave')[0]}")
        return None
    index = VideoIndex.read(folder / "videos" / "val")
    seen = extract_features(load_subject(folder / "run", options), index, description="picture").features
    labels = torch.from_numpy(index.label_ids)
    figure = new_figure(15, 9.5)
    top, bottom = cast(Any, figure.subfigures(2, 1))
    bars, losses, ahead = top.subplots(1, 3, width_ratios=(1.25, 1, 1))
    _accuracies(bars, results)
    _losses(losses, folder)
    _forecast(ahead, forecast)
    left, right = bottom.subfigures(1, 2, width_ratios=(1.15, 1))
    for axis, name in zip(left.subplots(1, 2), ("untrained", "trained"), strict=True):
        _features(axis, seen[name], labels, index.classes, f"features, {name}", legend=name == "trained")
    _neighbours(right.subplots(QUERIES, NEIGHBOURS + 1), seen["trained"], index)
    figure.suptitle("vidssl demo: motions learned from unlabelled videos", fontsize=13)
    figure.savefig(folder / PICTURE, dpi=DPI)
    return folder / PICTURE


def _accuracies(axis: Axes, results: Mapping[str, Any]) -> None:
    probed, named = (results[name]["scores"] for name in ("linear-probe", "zero-shot"))
    rows = [
        ("linear probe\nmotion energy", probed["motion energy"], GREY),
        ("linear probe\nuntrained", probed["untrained"], ORANGE),
        ("linear probe\ntrained", probed["trained"], BLUE),
        ("zero-shot\nuntrained", named["untrained"], ORANGE),
        ("zero-shot\ntrained", named["trained"], BLUE),
    ]
    for place, (_, score, colour) in enumerate(rows):
        low, high = score["top1_interval"]
        top = 100 * score["top1"]
        error = [[max(top - 100 * low, 0)], [max(100 * high - top, 0)]]
        axis.bar(place, top, color=colour, yerr=error, ecolor=BLACK, capsize=3)
        axis.annotate(f"{top:.0f}", (place, 2), ha="center", color="white", weight="bold")
    axis.axhline(100 * probed["chance"]["top1"], color=BLACK, ls=":", lw=1, label="chance")
    axis.set(title="accuracy on new videos, %", ylim=(0, 100))
    axis.set_xticks(range(len(rows)), [name for name, *_ in rows], fontsize=7.5)
    axis.legend(frameon=False)


def _losses(axis: Axes, folder: Path) -> None:
    for run, title, colour in (("run", "SSL-HSIC", BLUE), ("naming", "names of motions", GREEN)):
        lines = (folder / run / "log.jsonl").read_text().splitlines()
        logged = [row for row in map(json.loads, lines) if "loss" in row and "step" in row]
        values = np.array([row["loss"] for row in logged])
        spread = max(float(values.max() - values.min()), 1e-9)
        axis.plot(
            [row["step"] for row in logged],
            (values - values.min()) / spread,
            color=colour,
            label=f"{title}: {values[0]:.2f} to {values[-1]:.2f}",
        )
    axis.set(title="loss, each from its least to its largest", xlabel="step", yticks=[])
    axis.legend(frameon=False, fontsize=8)


def _forecast(axis: Axes, forecast: FrameForecast) -> None:
    truth, mean, std = (x.numpy() for x in (forecast.truth, forecast.mean, forecast.std))
    at = np.arange(SEEN, len(truth))
    axis.plot(truth, "o-", color=BLACK, ms=3, lw=1, label="what the CLIP says")
    axis.plot(at, mean, "s-", color=BLUE, ms=3, label="forecast, with 90 %")
    axis.fill_between(at, mean - 1.645 * std, mean + 1.645 * std, color=BLUE, alpha=0.15, lw=0)
    axis.hlines(truth[SEEN - 1], SEEN - 1, len(truth) - 1, color=GREY, ls=":", label="last frame seen")
    axis.axvline(SEEN - 0.5, color=GREY, lw=1)
    axis.set(title="where the shape will be", xlabel="frame", ylabel="left  ↔  right", yticks=[])
    axis.legend(frameon=False, fontsize=8)


def _features(
    axis: Axes, features: Tensor, labels: Tensor, names: Sequence[str], title: str, legend: bool
) -> None:
    points = embed(features).numpy()
    for label, (name, (colour, mark)) in enumerate(zip(names, LOOKS, strict=True)):
        own = points[(labels == label).numpy()]
        axis.scatter(own[:, 0], own[:, 1], s=16, c=colour, marker=mark, lw=1, label=name.replace("_", " "))
    axis.set(title=f"{title} (t-SNE)", xticks=[], yticks=[])
    if legend:
        axis.legend(frameon=False, fontsize=7, loc="upper left", bbox_to_anchor=(1, 1))


def _neighbours(axes: NDArray[Any], features: Tensor, index: VideoIndex) -> None:
    """Rows of a video and the others nearest to it, a few frames of each side by side."""
    rows = F.normalize(features - features.mean(dim=0), dim=1)
    similar = (rows @ rows.T).fill_diagonal_(-2)
    queries = torch.linspace(0, len(rows) - 1, 2 * QUERIES + 1).long()[1::2].tolist()
    for line, query in enumerate(queries):
        nearest = similar[query].topk(NEIGHBOURS).indices.tolist()
        for column, video in enumerate([query, *nearest]):
            axis, label = axes[line, column], str(index.labels[video]).replace("_", " ")
            axis.imshow(_strip(index.path(video)))
            right = column and index.labels[video] == index.labels[query]
            colour = BLACK if not column else GREEN if right else ORANGE
            mark = "" if not column else "✓ " if right else "✗ "
            axis.set_title(f"{mark}{label}", fontsize=7, color=colour)
            axis.set_axis_off()
    axes[0, 0].set_title(f"video: {axes[0, 0].get_title()}", fontsize=7)
    axes[0, 1].set_title(f"nearest: {axes[0, 1].get_title()}", fontsize=7, color=axes[0, 1].title.get_color())


def _strip(path: Path) -> NDArray[np.uint8]:
    """Frames of the first shot of a video, in a square."""
    with open_video(path) as video:
        frames = video.frames(np.linspace(0, 7, SHOWN).round().astype(np.int64))
    pairs = [np.concatenate(frames[start : start + 2], axis=1) for start in (0, 2)]
    return np.concatenate(pairs, axis=0)
