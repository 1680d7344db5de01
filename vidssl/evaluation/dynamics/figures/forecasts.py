"""Forecast error against the horizon."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vidssl.evaluation.dynamics.bootstrap import Estimate
from vidssl.evaluation.dynamics.figures.style import BLACK, BLUE, GREEN, GREY, PURPLE, new_figure
from vidssl.evaluation.dynamics.forecasts import ForecastErrors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
