"""Whether a model's errors still tell its next errors.

NIS asks whether errors are as large as they are said to be; a model that is right also leaves nothing to predict: its
one-step errors (innovations) are uncorrelated in time (Bar-Shalom, Li & Kirubarajan 2001, section 5.4). What correlation
there is, is motion that the model has missed, or noise that it took for motion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import GaussianPrediction
from vidssl.evaluation.dynamics.bootstrap import Estimate, ratio_estimate

# How many distances are looked at.
DISTANCES = 4


@dataclass(frozen=True)
class Whiteness:
    """Of errors u_t, each divided by the root of its stated covariance.

    Attributes:
        distances: steps h between two errors; the first is the number of steps that predictions look ahead, since nearer
            ones share what they missed.
        autocorrelation: for each distance Σ u_t·u_{t+h} / Σ (u_t² + u_{t+h}²)/2, in [-1, 1], 0 for a model that is right.
        statistic: Σ_h n_h tr(C_h' C_0⁻¹ C_h C_0⁻¹) with C_h the mean of u_t u_{t+h}' over n_h pairs, also called Ljung-Box
            (Hosking 1980, "The Multivariate Portmanteau Statistic", whose factors for a single short series are 1 here);
            its scale is that of the errors, whatever was stated.
        degrees: of freedom of the χ² distribution that it has where errors are independent.
        p: probability of a statistic at least as large.
    """

    distances: list[int]
    autocorrelation: list[Estimate]
    statistic: float
    degrees: int
    p: float

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "distances": self.distances,
            "autocorrelation": [x._asdict() for x in self.autocorrelation],
            "statistic": self.statistic,
            "degrees": self.degrees,
            "p": self.p,
        }


def measure_whiteness(
    z: Tensor, prediction: GaussianPrediction, counts: Tensor, lag: int, resamples: Tensor
) -> Whiteness | None:
    """Correlations of the errors of one horizon; arguments as of `calibrate`. None where no two errors are far enough apart,
    or where they do not fill their m dimensions."""
    m = z.shape[2]
    error = (z[:, lag:] - prediction.mean)[..., None]
    root = torch.linalg.cholesky(prediction.cov)
    u = torch.linalg.solve_triangular(root, error, upper=False)[..., 0]
    u = torch.where(counts[..., None], u, 0)
    distances, correlations, statistic = [], [], u.new_zeros(())
    cov = torch.einsum("nti,ntj->ij", u, u) / counts.sum()
    factor, failed = torch.linalg.cholesky_ex(cov)
    if bool(failed) or int(counts.sum()) <= m:
        return None
    whitened = torch.linalg.solve_triangular(factor, u[..., None], upper=False)[..., 0]
    for distance in range(lag, min(lag + DISTANCES, u.shape[1])):
        pairs = counts[:, :-distance] & counts[:, distance:]
        if not bool(pairs.any()):
            break
        now, later = (torch.where(pairs[..., None], x, 0) for x in (u[:, :-distance], u[:, distance:]))
        power = (now.square() + later.square()).sum((1, 2)) / 2
        distances.append(distance)
        correlations.append(ratio_estimate((now * later).sum((1, 2)), power, resamples))
        product = torch.einsum("nti,ntj->ij", whitened[:, :-distance], whitened[:, distance:])
        statistic = statistic + product.square().sum() / pairs.sum()
    if not distances:
        return None
    degrees = m * m * len(distances)
    p = torch.special.gammaincc(u.new_tensor(degrees / 2), statistic / 2)
    return Whiteness(distances, correlations, float(statistic), degrees, float(p))
