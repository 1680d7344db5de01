"""Forecast errors against the horizon, beside those of baselines that know no motion.

Root mean squared error h steps ahead, in units of that of the mean latent, beside that of the last frame's latent and of
an exponential average of all latents so far, drawn towards the mean.

Two baselines know no motion and still beat the last latent. The average does wherever latents are noisy or forgotten;
its factor, and how far it is drawn, are chosen for each horizon on the very latents it is measured on, which favours
it. The clock does where latents say which frame of the clip they are, as those of an encoder that is told so may: it
is the mean of the other videos' latents at the same place of the clip. A model that does not beat it has found the
clip's own clock, not how anything moves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import GaussianPrediction
from vidssl.evaluation.dynamics.bootstrap import Estimate, ratio_estimate
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.evaluation.dynamics.style import BLACK, BLUE, GREEN, GREY, PURPLE, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BASELINES = ("persistence", "smoothing", "clock", "mean")
# Weights of the newest latent in the exponential average; 1 is the last latent itself.
SMOOTHING_FACTORS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.05, 0.02)


@dataclass(frozen=True)
class ForecastErrors:
    """Of forecasts 1 … H steps ahead, every entry one for each horizon.

    Attributes:
        pairs: number of forecasts.
        nrmse: by "model" and `BASELINES`: RMSE over that of the mean latent.
        ratio: of the model's RMSE to that of each baseline.
        smoothing, kept: factor of the exponential average s, and the share c of it that is kept: μ + c (s - μ).
    """

    step_seconds: float
    pairs: list[int]
    nrmse: dict[str, list[Estimate]]
    ratio: dict[str, list[Estimate]]
    smoothing: list[float]
    kept: list[float]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        horizons = range(1, len(self.pairs) + 1)
        seconds = None if math.isnan(self.step_seconds) else [h * self.step_seconds for h in horizons]
        return {
            "horizons": list(horizons),
            "seconds": seconds,
            "pairs": self.pairs,
            "nrmse": {name: [x._asdict() for x in row] for name, row in self.nrmse.items()},
            **{f"ratio_to_{name}": [x._asdict() for x in row] for name, row in self.ratio.items()},
            "smoothing_factor": self.smoothing,
            "smoothing_kept": self.kept,
        }


def forecast_errors(
    sequences: LatentSequences,
    z: Tensor,
    predictions: list[GaussianPrediction],
    counted: list[Tensor],
    resamples: Tensor,
) -> ForecastErrors:
    """Errors of the model and of the baselines, for every horizon.

    Args:
        sequences: N videos of T steps.
        z: (N, T, m) their latents.
        predictions: 1, 2, … H steps ahead.
        counted: (N, T - h) bool for each of them, which count.
        resamples: of the videos, see `resample_counts`.
    """
    average, clock = z[sequences.valid].mean(dim=0), clock_means(z, sequences.valid)
    averages = {factor: smoothed(z, sequences.valid, factor) for factor in SMOOTHING_FACTORS}
    rows: list[dict[str, Tensor]] = []
    factors, shares = [], []
    for h, (prediction, counts) in enumerate(zip(predictions, counted, strict=True), start=1):
        truth = z[:, h:]

        def squared(guess: Tensor, truth: Tensor = truth, counts: Tensor = counts) -> Tensor:
            """(N,) summed over the forecasts of a video."""
            return torch.where(counts, (guess - truth).square().sum(-1), 0).sum(1)

        drawn = {factor: _drawn(s[:, :-h], truth, average, counts) for factor, s in averages.items()}
        smoothing = {factor: squared(guess) for factor, (guess, _) in drawn.items()}
        best = min(smoothing, key=lambda factor: float(smoothing[factor].sum()))
        factors.append(best)
        shares.append(drawn[best][1])
        errors = {"model": squared(prediction.mean), "smoothing": smoothing[best]}
        errors |= {"persistence": squared(averages[1.0][:, :-h]), "clock": squared(clock[:, h:])}
        rows.append({**errors, "mean": squared(average.expand_as(truth))})

    def ratios(above: str, below: str) -> list[Estimate]:
        return [ratio_estimate(x[above], x[below], resamples, root=True) for x in rows]

    nrmse = {name: ratios(name, "mean") for name in ("model", *BASELINES)}
    ratio = {name: ratios("model", name) for name in BASELINES}
    pairs = [int(counts.sum()) for counts in counted]
    return ForecastErrors(sequences.step_seconds, pairs, nrmse, ratio, factors, shares)


def smoothed(z: Tensor, valid: Tensor, factor: float) -> Tensor:
    """(N, T, m) exponential average s_t = s_{t-1} + factor (z_t - s_{t-1}) of the latents that are there, from the first."""
    state, started, states = torch.zeros_like(z[:, 0]), torch.zeros_like(valid[:, :1]), []
    for latent, there in zip(z.unbind(1), valid[..., None].unbind(1), strict=True):
        moved = torch.where(started, state + factor * (latent - state), latent)
        state, started = torch.where(there, moved, state), started | there
        states.append(state)
    return torch.stack(states, dim=1)


def clock_means(z: Tensor, valid: Tensor) -> Tensor:
    """(N, T, m) mean of the latents at the same step of all other videos; of all latents where no other gets so far."""
    there = valid[..., None].double()
    kept = torch.where(valid[..., None], z, 0)
    others = there.sum(0) - there
    return torch.where(others > 0, (kept.sum(0) - kept) / others.clamp_min(1), z[valid].mean(0))


def _drawn(guess: Tensor, truth: Tensor, average: Tensor, counts: Tensor) -> tuple[Tensor, float]:
    """The guess drawn towards the average by the share, in [0, 1], that leaves the least error; and what is kept."""
    from_average, wanted = (x[counts] - average for x in (guess, truth))
    kept = float((from_average * wanted).sum() / from_average.square().sum().clamp_min(1e-300))
    kept = min(max(kept, 0.0), 1.0)
    return average + kept * (guess - average), kept


def forecast_figure(forecast: ForecastErrors, untrained: ForecastErrors | None = None) -> Figure:
    """Error against the horizon, and the ratio of the model's to that of the baselines."""
    figure = new_figure(11, 5.2)
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
    error_axis.set(ylabel="RMSE / RMSE of the mean latent", ylim=(0, None))
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
    low, high = zip(*(x.interval for x in row), strict=True)
    axis.fill_between(at, low, high, color=colour, alpha=0.12, lw=0)
    axis.plot(at, [x.value for x in row], style, color=colour, ms=4, lw=1.5, label=label)
