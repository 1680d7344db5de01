"""Where a box will be: a Kalman filter with constant velocity, and what it says of pairs (DeepSORT: Wojke et al. 2017, arXiv
1703.07402; here with the larger initial uncertainty and the constants of JDE, Wang et al. 2020, arXiv 1909.12605)."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidssl.evaluation.tracking.overlap import Array, as_array

# Standard deviations a frame, in heights of the box.
POSITION, VELOCITY = 1 / 20, 1 / 160
# 95 % of a chi-square distribution with 4 degrees of freedom.
GATE = 9.4877


class BoxFilter:
    """A Kalman filter of a box's centre x, y, aspect ratio a = w / h and height h, and of their velocities; a frame a step.

    Means are (8,), covariances (8, 8), all float64. A measurement is (x, y, a, h).
    """

    _motion = np.eye(8) + np.eye(8, k=4)

    def initiate(self, measurement: Any) -> tuple[Array, Array]:
        """Mean and covariance of a box seen for the first time, at rest as far as is known."""
        box = as_array(measurement)
        p, v = POSITION * box[3], VELOCITY * box[3]
        return np.concatenate((box, np.zeros(4))), _diagonal(
            2 * p, 2 * p, 1e-2, 2 * p, 10 * v, 10 * v, 1e-5, 10 * v
        )

    def predict(self, mean: Array, cov: Array) -> tuple[Array, Array]:
        """One frame on; the noise grows with the height that the box had."""
        p, v = POSITION * mean[3], VELOCITY * mean[3]
        noise = _diagonal(p, p, 1e-2, p, v, v, 1e-5, v)
        return self._motion @ mean, self._motion @ cov @ self._motion.T + noise

    def update(self, mean: Array, cov: Array, measurement: Any) -> tuple[Array, Array]:
        """What is known once the box has been seen."""
        expected, spread = self._expected(mean, cov)
        gain = np.linalg.solve(spread, cov[:4]).T
        return mean + gain @ (as_array(measurement) - expected), cov - gain @ spread @ gain.T

    def gating_distance(self, mean: Array, cov: Array, measurements: Any) -> Array:
        """Squared Mahalanobis distance (M,) of each measurement (M, 4) from the one that is expected."""
        expected, spread = self._expected(mean, cov)
        offset = as_array(measurements).reshape(-1, 4) - expected
        return np.asarray((offset * np.linalg.solve(spread, offset.T).T).sum(1))

    def _expected(self, mean: Array, cov: Array) -> tuple[Array, Array]:
        """Mean (4,) and covariance (4, 4) of a measurement."""
        p = POSITION * mean[3]
        return mean[:4], cov[:4, :4] + _diagonal(p, p, 1e-1, p)


def _diagonal(*deviations: float) -> Array:
    return np.diag(np.square(np.array(deviations, dtype=np.float64)))


def fuse_motion(cost: Any, distances: Any, weight: float = 0.98, gate: bool = True) -> Array:
    """weight * cost + (1 - weight) * distances.

    Args:
        cost: (n, m) of appearance.
        distances: (n, m) squared Mahalanobis distances, `BoxFilter.gating_distance`.
        weight: of appearance; 1 leaves motion out.
        gate: inf where a distance exceeds 9.4877, the 95th per cent of chi-square with 4 degrees of freedom.

    Returns:
        (n, m) float64.
    """
    costs, far = as_array(cost), as_array(distances)
    fused = weight * costs + (1 - weight) * far if weight < 1 else costs
    return np.where(far > GATE, np.inf, fused) if gate else fused.copy()
