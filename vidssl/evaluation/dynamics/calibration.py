"""Whether a model's doubts are right.

With NIS_t = e_tᵀ S_t^{-1} e_t, e_t the error of a prediction and S_t its stated covariance, a model that is right has
NIS ~ χ²_m, so the mean is m, the 95 % ellipse covers 95 %, and F(NIS) is uniform (Bar-Shalom, Li & Kirubarajan 2001,
section 5.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import GaussianPrediction
from vidssl.evaluation.dynamics.bootstrap import Estimate, ratio_estimate
from vidssl.evaluation.dynamics.style import BLUE, ORANGE, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COVERAGES = (0.5, 0.9, 0.95)


@dataclass(frozen=True)
class Calibration:
    """Of the predictions `horizon` steps ahead.

    Attributes:
        nis: (P,) of all predictions that count, `dim` is what it should be on average.
        pit: (P,) its value under the χ² distribution function, uniform on [0, 1] for a model that is right.
        ks: largest distance of the distribution of `pit` from the uniform one.
        coverage: share of latents inside the ellipse of each probability in `COVERAGES`.
        log_likelihood: nats of a prediction, per dimension.
        covariance_scale: mean NIS / `dim`, by which all covariances would have to be multiplied to be right on average (the
            factor of largest likelihood): above 1 the model is too sure, below 1 not sure enough.
    """

    horizon: int
    dim: int
    nis: Tensor
    pit: Tensor
    mean_nis: Estimate
    ks: float
    coverage: dict[float, Estimate]
    log_likelihood: Estimate
    covariance_scale: Estimate

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "horizon": self.horizon,
            "predictions": len(self.nis),
            "expected_nis": self.dim,
            "mean_nis": self.mean_nis._asdict(),
            "covariance_scale": self.covariance_scale._asdict(),
            "ks_distance": self.ks,
            "coverage": {f"{100 * p:.0f}": x._asdict() for p, x in self.coverage.items()},
            "log_likelihood_per_dim": self.log_likelihood._asdict(),
        }


def calibrate(
    z: Tensor, prediction: GaussianPrediction, counts: Tensor, lag: int, resamples: Tensor
) -> Calibration:
    """How right the covariances of one horizon are.

    Args:
        z: (N, T, m) latents.
        prediction: of them, `lag` steps ahead.
        counts: (N, T - lag) bool, which predictions count.
        resamples: of the videos, see `resample_counts`.
    """
    m = z.shape[2]
    error = (z[:, lag:] - prediction.mean)[..., None]
    factor = torch.linalg.cholesky(prediction.cov)
    nis = torch.linalg.solve_triangular(factor, error, upper=False).square().sum((-2, -1))
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    log_likelihood = -0.5 * (nis + log_det + m * math.log(2 * math.pi)) / m
    pit = chi_square_cdf(nis, m)

    def mean(x: Tensor) -> Estimate:
        return ratio_estimate(torch.where(counts, x, 0).sum(1), counts.sum(1).double(), resamples)

    return Calibration(
        horizon=lag,
        dim=m,
        nis=nis[counts],
        pit=pit[counts],
        mean_nis=mean(nis),
        ks=ks_distance(pit[counts]),
        coverage={p: mean((pit <= p).double()) for p in COVERAGES},
        log_likelihood=mean(log_likelihood),
        covariance_scale=mean(nis / m),
    )


def chi_square_cdf(x: Tensor, dim: int) -> Tensor:
    """Probability that a χ² variable of `dim` degrees of freedom is below x."""
    probability: Tensor = torch.special.gammainc(torch.full_like(x, dim / 2), x / 2)
    return probability


def ks_distance(pit: Tensor) -> float:
    """Largest distance of the empirical distribution of (P,) numbers in [0, 1] from the uniform one (Kolmogorov 1933)."""
    ordered = pit.sort().values
    ranks = torch.arange(1, len(pit) + 1, dtype=ordered.dtype)
    above, below = ranks / len(pit) - ordered, ordered - (ranks - 1) / len(pit)
    return float(torch.maximum(above, below).max())


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
