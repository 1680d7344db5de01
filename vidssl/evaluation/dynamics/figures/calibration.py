"""NIS against its density, coverage against probability, and the probability integral transform."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from vidssl.evaluation.dynamics.calibration import Calibration
from vidssl.evaluation.dynamics.figures.style import BLUE, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def calibration_figure(calibration: Calibration) -> Figure:
    """NIS against its density, coverage against probability, and the probability integral transform."""
    figure = new_figure(12.5, 4.2)
    nis_axis, coverage_axis, pit_axis = figure.subplots(1, 3)
    m, nis = calibration.dim, calibration.nis
    top = max(float(nis.quantile(0.99)), m + 4 * math.sqrt(2 * m))
    bins = max(min(round(math.sqrt(len(nis))), 40), 10)
    beyond = float((nis > top).double().mean())
    counts = torch.histc(nis, bins, 0, top) / (len(nis) * top / bins)
    edges = torch.linspace(0, top, bins + 1).tolist()
    nis_axis.stairs(counts.tolist(), edges, fill=True, color=BLUE, alpha=0.4, label="predictions")
    x = torch.linspace(0, top, 400, dtype=torch.float64)[1:]
    density = torch.distributions.Chi2(x.new_tensor(m)).log_prob(x).exp()
    nis_axis.plot(x.tolist(), density.tolist(), "--", color=ORANGE, lw=2, label=f"χ² of {m}")
    mean = calibration.mean_nis.value
    nis_axis.axvline(mean, color=BLUE, lw=1.5, label=f"mean {mean:.1f}")
    nis_axis.axvline(m, color=ORANGE, lw=1, ls=":", label=f"expected {m}")
    rest = f" ({100 * beyond:.0f} % beyond)" if beyond > 0.005 else ""
    nis_axis.set(xlabel=f"normalised innovation squared{rest}", ylabel="density")

    stated = torch.linspace(0, 1, 101, dtype=torch.float64)
    found = (calibration.pit[:, None] <= stated).double().mean(0)
    coverage_axis.plot([0, 100], [0, 100], "--", color=ORANGE, lw=1.5, label="calibrated")
    coverage_axis.plot((100 * stated).tolist(), (100 * found).tolist(), color=BLUE, lw=1.5, label="found")
    at = [100 * p for p in calibration.coverage]
    values = [100 * x.value for x in calibration.coverage.values()]
    intervals = [x.interval for x in calibration.coverage.values()]
    below = [max(y - 100 * low, 0) for y, (low, _) in zip(values, intervals, strict=True)]
    above = [max(100 * high - y, 0) for y, (_, high) in zip(values, intervals, strict=True)]
    title = "50, 90, 95 % with interval"
    coverage_axis.errorbar(at, values, [below, above], fmt="o", color=BLUE, capsize=3, label=title)
    coverage_axis.set(xlabel="stated probability of the ellipse (%)", ylabel="latents inside (%)")

    heights = torch.histc(calibration.pit, 20, 0, 1) / (len(calibration.pit) / 20)
    edges = torch.linspace(0, 1, 21).tolist()
    pit_axis.stairs(heights.tolist(), edges, fill=True, color=BLUE, alpha=0.4, label="found")
    pit_axis.axhline(1, color=ORANGE, ls="--", lw=1.5, label="calibrated")
    pit_axis.set(xlabel="χ² distribution function of the NIS", ylabel="density")
    pit_axis.set_title(f"KS distance {calibration.ks:.3f}", fontsize=10)
    for axis in (nis_axis, coverage_axis, pit_axis):
        axis.legend(frameon=False, fontsize=8)
    ahead = "one step" if calibration.horizon == 1 else f"{calibration.horizon} steps"
    figure.suptitle(f"Calibration of predictions {ahead} ahead ({len(nis)} of them)", fontsize=11)
    return figure
