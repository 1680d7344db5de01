"""Paths of some videos in the plane of their motion, and along its first direction against time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidssl.evaluation.dynamics.measure import Dynamics
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREY, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# -2 log(1 - 0.95): squared radius of the 95 % ellipse of two dimensions.
ELLIPSE = -2 * math.log(0.05)
TWO_SIGMA = 1.959963984540054
VIDEOS = 4
PREDICTED, OBSERVED = "predicted one step ahead (95 %)", "observed"
HIDDEN, FORECAST = "observed past the cut", "forecast past the cut"
STYLES: dict[str, dict[str, Any]] = {
    PREDICTED: {"ls": "", "marker": "x", "color": BLUE, "ms": 5},
    OBSERVED: {"ls": "-", "marker": "o", "color": BLACK, "ms": 3, "lw": 1},
    HIDDEN: {"ls": ":", "marker": "o", "color": BLACK, "ms": 4, "lw": 1, "mfc": "white"},
    FORECAST: {"ls": "--", "marker": "s", "color": ORANGE, "ms": 3.5, "lw": 1.5},
}


def trajectories_figure(dynamics: Dynamics, videos: int = VIDEOS) -> Figure:
    """Paths of some videos in the plane of their motion, and along its first direction against time.

    The plane is that of the two leading principal directions of the latents about the mean of their own video: how
    videos move, not how they differ. Shown are the longest videos, those that move the most first.
    """
    z, valid = dynamics.z, dynamics.sequences.valid
    axes, shares = motion_axes(z, valid)
    chosen = _moving(z, valid, videos)
    figure = new_figure(3.4 * len(chosen) + 0.4, 7.2)
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, video in enumerate(chosen):
        _draw(grid[0, column], grid[1, column], dynamics, video, axes)
        grid[0, column].set_title(_short(dynamics.sequences.names[video]), fontsize=9)
    names = [f"direction {i + 1} ({100 * share:.0f} %)" for i, share in enumerate(shares)]
    for axis in grid[0]:
        axis.set_xlabel(names[0])
    if len(names) > 1:
        grid[0, 0].set_ylabel(names[1])
    grid[1, 0].set_ylabel(names[0])
    title = "Latent trajectories in the leading directions of motion (share of the variance within videos)"
    figure.suptitle(title, fontsize=11)
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


def _draw(plane: Axes, course: Axes, dynamics: Dynamics, video: int, axes: Tensor) -> None:
    """One video in the plane of the axes, and along the first of them against time."""
    sequences, first = dynamics.sequences, dynamics.predictions[0]
    z, valid = dynamics.z[video] @ axes, sequences.valid[video]
    # The last latent seen before the forecast past the cut: as far from the end as forecasts reach.
    cut = max(int(valid.nonzero().max()) - len(dynamics.predictions), 1)
    later = dynamics.predictions[: len(valid) - 1 - cut]
    ahead = torch.stack([x.mean[video, cut] for x in later]) @ axes
    ahead_cov = axes.mT @ torch.stack([x.cov[video, cut] for x in later]) @ axes
    steps = torch.arange(len(valid))
    seen, hidden = valid & (steps <= cut), valid & (steps >= cut)
    known = valid[1 : cut + 1]
    mean = (first.mean[video] @ axes)[:cut][known]
    cov = (axes.mT @ first.cov[video] @ axes)[:cut][known]
    if axes.shape[1] < 2:
        plane.text(0.5, 0.5, "one dimension: see below", ha="center", transform=plane.transAxes)
        plane.set_axis_off()
    else:
        for one_mean, one_cov in zip(mean, cov, strict=True):
            _ellipse(plane, one_mean, one_cov, fc=BLUE, alpha=0.05, lw=0, zorder=1)
        plane.plot(*mean.mT.tolist(), label=PREDICTED, **STYLES[PREDICTED], zorder=4)
        plane.plot(*z[seen].mT.tolist(), label=OBSERVED, **STYLES[OBSERVED], zorder=3)
        plane.plot(*z[hidden].mT.tolist(), label=HIDDEN, **STYLES[HIDDEN], zorder=3)
        plane.plot(
            *torch.cat([z[cut : cut + 1], ahead]).mT.tolist(), label=FORECAST, **STYLES[FORECAST], zorder=5
        )
        _ellipse(plane, ahead[-1], ahead_cov[-1], fc="none", ec=ORANGE, ls="--", lw=1, zorder=2)
        plane.set_aspect("equal", adjustable="datalim")
        plane.autoscale_view()

    timeless = math.isnan(sequences.step_seconds)
    times, z = steps.double() if timeless else sequences.times[video], z[:, 0]
    at = times[1 : cut + 1][known]
    _band(course, at, mean[:, 0], cov[:, 0, 0], BLUE)
    course.plot(at.tolist(), mean[:, 0].tolist(), label=PREDICTED, **STYLES[PREDICTED])
    past = slice(cut + 1, cut + 1 + len(later))
    there = valid[past]
    at, mean = times[past][there], ahead[there, 0]
    _band(course, at, mean, ahead_cov[there, 0, 0], ORANGE)
    course.plot(
        [float(times[cut]), *at.tolist()], [float(z[cut]), *mean.tolist()], label=FORECAST, **STYLES[FORECAST]
    )
    course.plot(times[seen].tolist(), z[seen].tolist(), label=OBSERVED, **STYLES[OBSERVED])
    course.plot(times[hidden].tolist(), z[hidden].tolist(), label=HIDDEN, **STYLES[HIDDEN])
    course.axvline(float(times[cut]), color=GREY, lw=0.8)
    course.set_xlabel(f"time ({'steps' if timeless else 's'})")


def _band(axis: Axes, at: Tensor, mean: Tensor, variance: Tensor, colour: str) -> None:
    reach = TWO_SIGMA * variance.sqrt()
    low, high = (mean - reach).tolist(), (mean + reach).tolist()
    axis.fill_between(at.tolist(), low, high, color=colour, alpha=0.15, lw=0)


def _ellipse(axis: Axes, mean: Tensor, cov: Tensor, **style: Any) -> None:
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
