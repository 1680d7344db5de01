"""Paths of some videos in the plane of their motion, and along its first direction against time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from vidssl.evaluation.dynamics.figures.style import BLACK, BLUE, GREY, ORANGE, new_figure
from vidssl.evaluation.dynamics.measure import Dynamics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# -2 log(1 - 0.95): squared radius of the 95 % ellipse of two dimensions.
ELLIPSE = -2 * math.log(0.05)
TWO_SIGMA = 1.959963984540054
VIDEOS = 4
Style = dict[str, Any]
PREDICTED: Style = {
    "ls": "",
    "marker": "x",
    "color": BLUE,
    "ms": 5,
    "label": "predicted one step ahead (95 %)",
}
OBSERVED: Style = {"ls": "-", "marker": "o", "color": BLACK, "ms": 3, "lw": 1, "label": "observed"}
HIDDEN: Style = {**OBSERVED, "ls": ":", "mfc": "white", "ms": 4, "label": "observed past the cut"}
FORECAST: Style = {
    "ls": "--",
    "marker": "s",
    "color": ORANGE,
    "ms": 3.5,
    "lw": 1.5,
    "label": "forecast past the cut",
}


def trajectories_figure(dynamics: Dynamics, videos: int = VIDEOS) -> Figure:
    """Paths of some videos in the plane of their motion, and along its first direction against time.

    The plane is that of the two leading principal directions of the latents about the mean of their own video: how
    videos move, not how they differ. Shown are the longest videos, those that move the most first.
    """
    z, valid = dynamics.z, dynamics.sequences.valid
    axes, shares = motion_axes(z, valid)
    chosen = _moving(z, valid, videos)
    unit = "steps" if math.isnan(dynamics.sequences.step_seconds) else "s"
    figure = new_figure(3.4 * len(chosen) + 0.4, 7.2)
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, video in enumerate(chosen):
        shown = _shown(dynamics, video, axes)
        _plane(grid[0, column], shown)
        _course(grid[1, column], shown, unit)
        grid[0, column].set_title(_short(dynamics.sequences.names[video]), fontsize=9)
    names = [f"direction {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(shares)]
    for axis in grid[0]:
        axis.set_xlabel(names[0])
    if len(names) > 1:
        grid[0, 0].set_ylabel(names[1])
    grid[1, 0].set_ylabel(names[0])
    figure.suptitle(
        "Latent trajectories in the leading directions of motion (share of the variance within videos)",
        fontsize=11,
    )
    handles, labels = grid[1, 0].get_legend_handles_labels()
    more, more_labels = grid[0, 0].get_legend_handles_labels()
    known = dict(zip(more_labels + labels, more + handles, strict=True))
    figure.legend(known.values(), known.keys(), loc="outside lower center", ncols=len(known), frameon=False)
    return figure


def motion_axes(z: Tensor, valid: Tensor) -> tuple[Tensor, list[float]]:
    """(m, 2) leading principal directions of (N, T, m) about the mean of each video, and their shares of the variance.

    One column where m is 1. The sign is such that the largest entry is positive.
    """
    weights = valid[..., None].double()
    centred = (z - (z * weights).sum(1, keepdim=True) / weights.sum(1, keepdim=True).clamp_min(1)) * weights
    _, values, rows = torch.linalg.svd(centred.flatten(0, 1), full_matrices=False)
    axes = rows[:2].mT
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    power = values.square()
    return axes * largest.sign(), (power[:2] / power.sum().clamp_min(1e-300)).tolist()


def _moving(z: Tensor, valid: Tensor, videos: int) -> list[int]:
    """The videos with the most latents, among them those with the longest paths."""
    both = (valid[:, 1:] & valid[:, :-1])[..., None]
    path = torch.where(both, z.diff(dim=1), 0).square().sum((1, 2))
    ranks = sorted(range(len(z)), key=lambda i: (int(valid[i].sum()), float(path[i])), reverse=True)
    return ranks[:videos]


class _Shown(NamedTuple):
    """One video in the k directions of the axes, its T steps, and the H that are forecast from the cut on.

    Attributes:
        z: (T, k) latents.
        times: (T,) seconds, or steps where they are not known.
        valid: (T,) bool, which latents are there.
        cut: the last latent seen before the forecast past it, as far from the end as forecasts reach.
        mean, cov: (T - 1, k) and (T - 1, k, k), predictions one step ahead.
        ahead, ahead_cov: (H, k) and (H, k, k), forecast from the cut.
    """

    z: Tensor
    times: Tensor
    valid: Tensor
    cut: int
    mean: Tensor
    cov: Tensor
    ahead: Tensor
    ahead_cov: Tensor


def _shown(dynamics: Dynamics, video: int, axes: Tensor) -> _Shown:
    sequences, predictions = dynamics.sequences, dynamics.predictions
    valid, times = sequences.valid[video], sequences.times[video]
    if math.isnan(sequences.step_seconds):
        times = torch.arange(len(valid), dtype=torch.float64)
    cut = max(int(valid.nonzero().max()) - len(predictions), 1)
    later = predictions[: len(valid) - 1 - cut]
    return _Shown(
        dynamics.z[video] @ axes,
        times,
        valid,
        cut,
        predictions[0].mean[video] @ axes,
        axes.mT @ predictions[0].cov[video] @ axes,
        torch.stack([x.mean[video, cut] for x in later]) @ axes,
        axes.mT @ torch.stack([x.cov[video, cut] for x in later]) @ axes,
    )


def _plane(axis: Axes, shown: _Shown) -> None:
    z, _, valid, cut, mean, cov, ahead, ahead_cov = shown
    if z.shape[1] < 2:
        axis.text(0.5, 0.5, "one dimension: see below", ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    for t in range(cut):
        if bool(valid[t + 1]):
            _add_ellipse(axis, mean[t], cov[t], fc=BLUE, alpha=0.05, lw=0, zorder=1)
    seen, hidden = _split(valid, cut)
    axis.plot(*mean[:cut][valid[1 : cut + 1]].mT.tolist(), **PREDICTED, zorder=4)
    axis.plot(*z[seen].mT.tolist(), **OBSERVED, zorder=3)
    axis.plot(*z[hidden].mT.tolist(), **HIDDEN, zorder=3)
    axis.plot(*torch.cat([z[cut : cut + 1], ahead]).mT.tolist(), **FORECAST, zorder=5)
    _add_ellipse(axis, ahead[-1], ahead_cov[-1], fc="none", ec=ORANGE, ls="--", lw=1, zorder=2)
    axis.set_aspect("equal", adjustable="datalim")
    axis.autoscale_view()


def _course(axis: Axes, shown: _Shown, unit: str) -> None:
    """The first direction against time, with bands of 95 %."""
    times, valid, cut, z = shown.times, shown.valid, shown.cut, shown.z[:, 0]
    seen, hidden = _split(valid, cut)
    there = valid[1 : cut + 1]
    at, mean = times[1 : cut + 1][there], shown.mean[:cut, 0][there]
    _band(axis, at, mean, shown.cov[:cut, 0, 0][there], BLUE)
    axis.plot(at.tolist(), mean.tolist(), **PREDICTED)
    steps = slice(cut + 1, cut + 1 + len(shown.ahead))
    there = valid[steps]
    at, mean = times[steps][there], shown.ahead[:, 0][there]
    _band(axis, at, mean, shown.ahead_cov[:, 0, 0][there], ORANGE)
    axis.plot([float(times[cut]), *at.tolist()], [float(z[cut]), *mean.tolist()], **FORECAST)
    axis.plot(times[seen].tolist(), z[seen].tolist(), **OBSERVED)
    axis.plot(times[hidden].tolist(), z[hidden].tolist(), **HIDDEN)
    axis.axvline(float(times[cut]), color=GREY, lw=0.8)
    axis.set_xlabel(f"time ({unit})")


def _split(valid: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    """(T,) bool, which latents are there up to the cut, and from it on."""
    steps = torch.arange(len(valid))
    return valid & (steps <= cut), valid & (steps >= cut)


def _band(axis: Axes, at: Tensor, mean: Tensor, variance: Tensor, colour: str) -> None:
    reach = TWO_SIGMA * variance.sqrt()
    axis.fill_between(
        at.tolist(), (mean - reach).tolist(), (mean + reach).tolist(), color=colour, alpha=0.15, lw=0
    )


def _add_ellipse(axis: Axes, mean: Tensor, cov: Tensor, **style: Any) -> None:
    """The 95 % ellipse of a mean (2,) and covariance (2, 2)."""
    from matplotlib.patches import Ellipse

    values, vectors = torch.linalg.eigh(cov)
    width, height = (2 * (values.flip(0).clamp_min(0) * ELLIPSE).sqrt()).tolist()
    x, y = vectors[:, 1].tolist()
    centre = (float(mean[0]), float(mean[1]))
    axis.add_patch(Ellipse(centre, width, height, angle=math.degrees(math.atan2(y, x)), **style))


def _short(name: str) -> str:
    """The end of a path, as much as fits above a panel."""
    text = "/".join(Path(name).parts[-2:])
    return text if len(text) <= 36 else "…" + text[-35:]
