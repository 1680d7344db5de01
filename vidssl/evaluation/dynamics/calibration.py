"""Whether a model's doubts are right.

With NIS_t = e_tᵀ S_t^{-1} e_t, e_t the error of a prediction and S_t its stated covariance, a model that is right has
NIS ~ χ²_m, so the mean is m, the 95 % ellipse covers 95 %, and F(NIS) is uniform (Bar-Shalom, Li & Kirubarajan 2001,
section 5.4).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import GaussianPrediction
from vidssl.evaluation.dynamics.bootstrap import Estimate, ratio_estimate

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
    """

    horizon: int
    dim: int
    nis: Tensor
    pit: Tensor
    mean_nis: Estimate
    ks: float
    coverage: dict[float, Estimate]
    log_likelihood: Estimate

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "horizon": self.horizon,
            "predictions": len(self.nis),
            "expected_nis": self.dim,
            "mean_nis": self.mean_nis._asdict(),
            "ks_distance": self.ks,
            "coverage": {f"{100 * p:.0f}": x._asdict() for p, x in self.coverage.items()},
            "log_likelihood_per_dim": self.log_likelihood._asdict(),
        }


def calibrate(
    z: Tensor, prediction: GaussianPrediction, counts: Tensor, lag: int, resamples: Tensor
) -> Calibration:
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
