"""Figures of the motion that a model learned, as PNG files. matplotlib is optional and imported when one is drawn.

Figures are made by hand, without pyplot and its global state. Colours are those of Okabe & Ito (2008), which people with
any colour vision tell apart; no distinction rests on colour alone.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.measure import (
    COVERAGES,
    Calibration,
    Dynamics,
    Eigenvalue,
    Estimate,
    ForecastErrors,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, PURPLE, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A", "#222222"
# -2 log(1 - 0.95): squared radius of the 95 % ellipse of two dimensions.
ELLIPSE = -2 * math.log(0.05)
TWO_SIGMA = 1.959963984540054
VIDEOS = 4
# Eigenvalues that get a label: so many, of modes that do not die at once; radians between two labels.
LABELS, FADED, LABEL_GAP = 8, 0.3, 0.16
DPI = 130


def check_matplotlib() -> None:
    """
    Raises:
        VidsslError: when matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise VidsslError(
            f'figures need matplotlib, which cannot be imported ({error}); pip install "vidssl[plots]", or leave '
            "them out with --no-plots"
        ) from None


def plot_dynamics(dynamics: Dynamics, folder: Path, untrained: Dynamics | None = None) -> list[Path]:
    """Write the figures into `folder`; a model without eigenvalues has no figure of them.

    Args:
        dynamics: of `measure_dynamics`.
        untrained: the same before training, drawn beside the forecasts.

    Raises:
        VidsslError: when matplotlib is not installed.
    """
    check_matplotlib()
    figures = {
        "trajectories": trajectories_figure(dynamics),
        "calibration": calibration_figure(dynamics.calibration),
        "forecast": forecast_figure(dynamics.forecast, None if untrained is None else untrained.forecast),
    }
    if dynamics.eigenvalues is not None:
        figures["eigenvalues"] = eigenvalues_figure(dynamics.eigenvalues, dynamics.sequences.step_seconds)
    files = []
    for name, figure in figures.items():
        files.append(folder / f"dynamics_{name}.png")
        figure.savefig(files[-1], dpi=DPI)
    return files


# -- trajectories ------------------------------------------------------------------------------------------------------


def trajectories_figure(dynamics: Dynamics, videos: int = VIDEOS) -> Figure:
    """Paths of some videos in the plane of their motion, and along its first direction against time.

    The plane is that of the two leading principal directions of the latents about the mean of their own video: how
    videos move, not how they differ. Shown are the longest videos, those that move the most first.
    """
    z, valid = dynamics.z, dynamics.sequences.valid
    axes, shares = motion_axes(z, valid)
    chosen = _moving(z, valid, videos)
    figure = _figure(3.4 * len(chosen) + 0.4, 7.2)
    grid = figure.subplots(2, len(chosen), squeeze=False)
    for column, video in enumerate(chosen):
        _plane(grid[0, column], dynamics, video, axes)
        _course(grid[1, column], dynamics, video, axes)
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


def _cut(dynamics: Dynamics, video: int) -> int:
    """The last latent seen before the forecast past the cut: as far from the end as forecasts reach."""
    last = int(dynamics.sequences.valid[video].nonzero().max())
    return max(last - len(dynamics.predictions), 1)


def _past_cut(dynamics: Dynamics, video: int, axes: Tensor) -> tuple[list[int], Tensor, Tensor]:
    """Steps, means (H, 2) and covariances (H, 2, 2) of the forecast from the cut."""
    cut, steps = _cut(dynamics, video), dynamics.z.shape[1]
    steps_ahead = [h for h in range(1, len(dynamics.predictions) + 1) if cut + h < steps]
    parts = [dynamics.predictions[h - 1] for h in steps_ahead]
    mean = torch.stack([part.mean[video, cut] for part in parts]) @ axes
    cov = axes.mT @ torch.stack([part.cov[video, cut] for part in parts]) @ axes
    return [cut + h for h in steps_ahead], mean, cov


def _plane(axis: Axes, dynamics: Dynamics, video: int, axes: Tensor) -> None:
    from matplotlib.patches import Ellipse

    z, valid, cut = dynamics.z[video] @ axes, dynamics.sequences.valid[video], _cut(dynamics, video)
    if axes.shape[1] < 2:
        axis.text(0.5, 0.5, "one dimension: see below", ha="center", transform=axis.transAxes)
        axis.set_axis_off()
        return
    seen = valid.clone()
    seen[cut + 1 :] = False
    first = dynamics.predictions[0]
    mean, cov = first.mean[video] @ axes, axes.mT @ first.cov[video] @ axes
    for t in [t for t in range(cut) if bool(valid[t + 1])]:
        width, height, degrees = _ellipse(cov[t])
        axis.add_patch(
            Ellipse(_point(mean[t]), width, height, angle=degrees, fc=BLUE, alpha=0.05, lw=0, zorder=1)
        )
    predicted = mean[:cut][valid[1 : cut + 1]]
    axis.plot(
        *predicted.mT.tolist(), "x", color=BLUE, ms=5, label="predicted one step ahead (95 %)", zorder=4
    )
    axis.plot(*z[seen].mT.tolist(), "-", color=BLACK, marker="o", ms=3, lw=1, label="observed", zorder=3)
    after = valid.clone()
    after[:cut] = False
    axis.plot(
        *z[after].mT.tolist(), ":", color=BLACK, marker="o", mfc="white", ms=4, lw=1,
        label="observed past the cut", zorder=3,
    )  # fmt: skip
    _, ahead, spread = _past_cut(dynamics, video, axes)
    path = torch.cat([z[cut : cut + 1], ahead])
    axis.plot(
        *path.mT.tolist(),
        "--",
        color=ORANGE,
        marker="s",
        ms=3.5,
        lw=1.5,
        label="forecast past the cut",
        zorder=5,
    )
    width, height, degrees = _ellipse(spread[-1])
    axis.add_patch(
        Ellipse(
            _point(ahead[-1]), width, height, angle=degrees, fc="none", ec=ORANGE, ls="--", lw=1, zorder=2
        )
    )
    axis.set_aspect("equal", adjustable="datalim")
    axis.autoscale_view()


def _course(axis: Axes, dynamics: Dynamics, video: int, axes: Tensor) -> None:
    """The first direction against time, with bands of 95 %."""
    valid, cut = dynamics.sequences.valid[video], _cut(dynamics, video)
    z = (dynamics.z[video] @ axes)[:, 0]
    unit, times = "s", dynamics.sequences.times[video]
    if math.isnan(dynamics.sequences.step_seconds):
        unit, times = "steps", torch.arange(len(z), dtype=torch.float64)
    first = dynamics.predictions[0]
    mean = (first.mean[video] @ axes)[:, 0]
    spread = TWO_SIGMA * (axes.mT @ first.cov[video] @ axes)[:, 0, 0].sqrt()
    shown = [t for t in range(cut) if bool(valid[t + 1])]
    at = times[[t + 1 for t in shown]].tolist()
    axis.fill_between(
        at, (mean - spread)[shown].tolist(), (mean + spread)[shown].tolist(), color=BLUE, alpha=0.15, lw=0
    )
    axis.plot(at, mean[shown].tolist(), "x", color=BLUE, ms=5, label="predicted one step ahead (95 %)")
    steps, ahead, cov = _past_cut(dynamics, video, axes)
    reach = TWO_SIGMA * cov[:, 0, 0].sqrt()
    kept = [i for i, step in enumerate(steps) if bool(valid[step])]
    later = times[[steps[i] for i in kept]].tolist()
    axis.fill_between(
        later, (ahead[:, 0] - reach)[kept].tolist(), (ahead[:, 0] + reach)[kept].tolist(),
        color=ORANGE, alpha=0.15, lw=0,
    )  # fmt: skip
    axis.plot(
        [float(times[cut]), *later], [float(z[cut]), *ahead[:, 0][kept].tolist()], "--", color=ORANGE, marker="s",
        ms=3.5, lw=1.5, label="forecast past the cut",
    )  # fmt: skip
    before, after = valid.clone(), valid.clone()
    before[cut + 1 :], after[:cut] = False, False
    axis.plot(
        times[before].tolist(), z[before].tolist(), "-", color=BLACK, marker="o", ms=3, lw=1, label="observed"
    )
    axis.plot(
        times[after].tolist(), z[after].tolist(), ":", color=BLACK, marker="o", mfc="white", ms=4, lw=1,
        label="observed past the cut",
    )  # fmt: skip
    axis.axvline(float(times[cut]), color=GREY, lw=0.8)
    axis.set_xlabel(f"time ({unit})")


def _point(x: Tensor) -> tuple[float, float]:
    return float(x[0]), float(x[1])


def _ellipse(cov: Tensor) -> tuple[float, float, float]:
    """Full width, full height and angle in degrees of the 95 % ellipse of a (2, 2) covariance."""
    values, vectors = torch.linalg.eigh(cov)
    width, height = (2 * (values.flip(0).clamp_min(0) * ELLIPSE).sqrt()).tolist()
    x, y = vectors[:, 1].tolist()
    return width, height, math.degrees(math.atan2(y, x))


# -- eigenvalues -------------------------------------------------------------------------------------------------------


def eigenvalues_figure(eigenvalues: list[Eigenvalue], step_seconds: float) -> Figure:
    """Eigenvalues in the unit circle; those that turn are named with their angle."""
    figure = _figure(6.2, 6.4)
    axis = figure.subplots()
    circle = torch.linspace(0, 2 * math.pi, 361, dtype=torch.float64)
    axis.plot(
        circle.cos().tolist(),
        circle.sin().tolist(),
        color=GREY,
        lw=1,
        label="|λ| = 1: neither grows nor decays",
    )
    axis.axhline(0, color=GREY, lw=0.5)
    axis.axvline(0, color=GREY, lw=0.5)
    turning = [x for x in eigenvalues if abs(x.value.imag) > 1e-9]
    still = [x for x in eigenvalues if abs(x.value.imag) <= 1e-9]
    for row, marker, colour, name in (
        (still, "s", BLUE, "real: does not turn"),
        (turning, "o", ORANGE, "turns by its angle in a step"),
    ):
        if row:
            axis.plot(
                [x.value.real for x in row], [x.value.imag for x in row], marker, color=colour, ms=7, alpha=0.8,
                mec="white", label=name,
            )  # fmt: skip
    outside = max(1.0, *(x.modulus for x in eigenvalues)) + 0.12
    for x, at in _spread([x for x in turning if x.angle > 0.01 and x.modulus > FADED][:LABELS]):
        axis.plot([0, x.value.real], [0, x.value.imag], color=ORANGE, lw=0.7, alpha=0.6)
        text = f"{x.angle:.2f} rad a step"
        if math.isfinite(x.period_seconds):
            text += f"\n{x.angle_per_second:.2f} rad/s"
        axis.annotate(
            text, (x.value.real, x.value.imag), (outside * math.cos(at), outside * math.sin(at)), fontsize=8,
            ha="left" if math.cos(at) > 0 else "right", va="center", color=BLACK,
            arrowprops={"arrowstyle": "-", "color": GREY, "lw": 0.5},
        )  # fmt: skip
    reach = outside + 0.5
    axis.set_xlim(-reach, reach)
    axis.set_ylim(-reach, reach)
    axis.set_aspect("equal")
    axis.set_xlabel("real part")
    axis.set_ylabel("imaginary part")
    step = "" if math.isnan(step_seconds) else f" of {step_seconds:.3g} s"
    axis.set_title(f"Eigenvalues λ of the transition over one step{step}", fontsize=11)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    return figure


def _spread(modes: list[Eigenvalue]) -> list[tuple[Eigenvalue, float]]:
    """The modes with angles for their labels: their own, moved apart where they would overlap."""
    placed: list[tuple[Eigenvalue, float]] = []
    for x in sorted(modes, key=lambda x: x.angle):
        placed.append((x, max(x.angle, placed[-1][1] + LABEL_GAP) if placed else x.angle))
    return placed


# -- calibration -------------------------------------------------------------------------------------------------------


def calibration_figure(calibration: Calibration) -> Figure:
    """NIS against its density, coverage against probability, and the probability integral transform."""
    figure = _figure(12.5, 4.2)
    nis_axis, coverage_axis, pit_axis = figure.subplots(1, 3)
    m, nis = calibration.dim, calibration.nis
    top = max(float(nis.quantile(0.99)), m + 4 * math.sqrt(2 * m))
    bins = max(min(round(math.sqrt(len(nis))), 40), 10)
    beyond = float((nis > top).double().mean())
    counts = torch.histc(nis, bins, 0, top) / (len(nis) * top / bins)
    edges = torch.linspace(0, top, bins + 1).tolist()
    nis_axis.stairs(counts.tolist(), edges, fill=True, color=BLUE, alpha=0.4, label="predictions")
    x = torch.linspace(0, top, 400, dtype=torch.float64)[1:]
    nis_axis.plot(
        x.tolist(), _chi_square_density(x, m).tolist(), "--", color=ORANGE, lw=2, label=f"χ² of {m}"
    )
    nis_axis.axvline(
        calibration.mean_nis.value, color=BLUE, lw=1.5, label=f"mean {calibration.mean_nis.value:.1f}"
    )
    nis_axis.axvline(m, color=ORANGE, lw=1, ls=":", label=f"expected {m}")
    nis_axis.set_xlabel(
        "normalised innovation squared" + (f" ({100 * beyond:.0f} % beyond)" if beyond > 0.005 else "")
    )
    nis_axis.set_ylabel("density")
    nis_axis.legend(frameon=False, fontsize=8)

    stated = torch.linspace(0, 1, 101, dtype=torch.float64)
    found = (calibration.pit[:, None] <= stated).double().mean(0)
    coverage_axis.plot([0, 100], [0, 100], "--", color=ORANGE, lw=1.5, label="calibrated")
    coverage_axis.plot((100 * stated).tolist(), (100 * found).tolist(), color=BLUE, lw=1.5, label="found")
    values = [100 * calibration.coverage[p].value for p in COVERAGES]
    intervals = [calibration.coverage[p].interval for p in COVERAGES]
    coverage_axis.errorbar(
        [100 * p for p in COVERAGES], values, _bars(values, intervals, 100), fmt="o", color=BLUE, capsize=3,
        label="50, 90, 95 % with interval",
    )  # fmt: skip
    coverage_axis.set_xlabel("stated probability of the ellipse (%)")
    coverage_axis.set_ylabel("latents inside (%)")
    coverage_axis.legend(frameon=False, fontsize=8)

    heights = torch.histc(calibration.pit, 20, 0, 1) / (len(calibration.pit) / 20)
    pit_axis.stairs(
        heights.tolist(), torch.linspace(0, 1, 21).tolist(), fill=True, color=BLUE, alpha=0.4, label="found"
    )
    pit_axis.axhline(1, color=ORANGE, ls="--", lw=1.5, label="calibrated")
    pit_axis.set_xlabel("χ² distribution function of the NIS")
    pit_axis.set_ylabel("density")
    pit_axis.set_title(f"KS distance {calibration.ks:.3f}", fontsize=10)
    pit_axis.legend(frameon=False, fontsize=8)
    ahead = "one step" if calibration.horizon == 1 else f"{calibration.horizon} steps"
    figure.suptitle(f"Calibration of predictions {ahead} ahead ({len(nis)} of them)", fontsize=11)
    return figure


def _chi_square_density(x: Tensor, dim: int) -> Tensor:
    half = dim / 2
    return ((half - 1) * x.log() - x / 2 - half * math.log(2) - math.lgamma(half)).exp()


# -- forecasts ---------------------------------------------------------------------------------------------------------


def forecast_figure(forecast: ForecastErrors, untrained: ForecastErrors | None = None) -> Figure:
    """Error against the horizon, and the ratio of the model's to that of the baselines."""
    figure = _figure(11, 5.2)
    error_axis, ratio_axis = figure.subplots(1, 2)
    unit, steps = "steps", torch.arange(1, len(forecast.pairs) + 1).double()
    if not math.isnan(forecast.step_seconds):
        unit, steps = "s", steps * forecast.step_seconds
    at = steps.tolist()
    for name, colour, style, title in (
        ("mean", GREY, ":", "mean latent of all videos"),
        ("persistence", BLACK, "o--", "last latent (persistence)"),
        ("smoothing", GREEN, "^-.", "best average of the latents so far (smoothing)"),
        ("clock", PURPLE, "v:", "other videos at this place of the clip (clock)"),
        ("model", BLUE, "s-", "model"),
    ):
        _line(error_axis, at, forecast.nrmse[name], colour, style, title)
    error_axis.set_ylabel("RMSE / RMSE of the mean latent")
    error_axis.set_ylim(bottom=0)
    ratio_axis.axhline(1, color=GREY, lw=1, ls=":")
    _line(ratio_axis, at, forecast.ratio["persistence"], BLUE, "s-", "model / persistence")
    _line(ratio_axis, at, forecast.ratio["smoothing"], GREEN, "^-.", "model / smoothing")
    _line(ratio_axis, at, forecast.ratio["clock"], PURPLE, "v:", "model / clock")
    if untrained is not None:
        # Untrained latents may be so small beside the noise that the model assumes that it is far off.
        top = max(1.5, 1.1 * max(x.interval[1] for row in forecast.ratio.values() for x in row))
        off = " (off the scale)" if min(x.value for x in untrained.ratio["persistence"]) > top else ""
        title = f"untrained model / persistence{off}"
        _line(ratio_axis, at, untrained.ratio["persistence"], GREY, "D--", title)
        ratio_axis.set_ylim(0, top)
    ratio_axis.set_ylabel("ratio of RMSE (below 1: the model is better)")
    for axis in (error_axis, ratio_axis):
        axis.set_xlabel(f"forecast horizon ({unit})")
        axis.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    figure.suptitle("Forecast error against the horizon, with 95 % intervals over videos", fontsize=11)
    return figure


def _line(axis: Axes, at: list[float], row: list[Estimate], colour: str, style: str, label: str) -> None:
    axis.fill_between(
        at, [x.interval[0] for x in row], [x.interval[1] for x in row], color=colour, alpha=0.12, lw=0
    )
    axis.plot(at, [x.value for x in row], style, color=colour, ms=4, lw=1.5, label=label)


# -- small things ------------------------------------------------------------------------------------------------------


def _figure(width: float, height: float) -> Figure:
    """Inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _bars(values: list[float], intervals: list[tuple[float, float]], scale: float) -> list[list[float]]:
    """Lengths below and above, as error bars want them."""
    pairs = list(zip(values, intervals, strict=True))
    return [
        [max(value - scale * low, 0) for value, (low, _) in pairs],
        [max(scale * high - value, 0) for value, (_, high) in pairs],
    ]


def _short(name: str) -> str:
    """The end of a path, as much as fits above a panel."""
    text = "/".join(Path(name).parts[-2:])
    return text if len(text) <= 36 else "…" + text[-35:]
