"""HSIC in NumPy, written from the definitions: full matrices and explicit double sums, no shared code."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def gram(rows: Array, c: float) -> Array:
    n = len(rows)
    kernel = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            kernel[i, j] = c / np.sqrt(((rows[i] - rows[j]) ** 2).sum() + c**2)
    return kernel


def hsic_xx(kernel: Array) -> float:
    n = len(kernel)
    h = np.eye(n) - np.ones((n, n)) / n
    centred = h @ kernel @ h
    return float(np.trace(centred @ centred) / n**2)


def hsic_xy(kernel: Array, labels: Array) -> float:
    """tr(K H L H) / sum(L), its mean over positive pairs taken over pairs of different rows only."""
    n = len(kernel)
    h = np.eye(n) - np.ones((n, n)) / n
    others = labels * (1 - np.eye(n))
    with_self, without_self = (labels * kernel).sum() / labels.sum(), (others * kernel).sum() / others.sum()
    return float(np.trace(kernel @ h @ labels @ h) / labels.sum() - with_self + without_self)


def hsic_xy_identity(kernel: Array, identity: NDArray[np.int64]) -> float:
    """Mean over pairs of different rows of one video minus the mean over all pairs, by counting."""
    n = len(kernel)
    positives = [kernel[i, j] for i in range(n) for j in range(n) if i != j and identity[i] == identity[j]]
    everything = [kernel[i, j] for i in range(n) for j in range(n)]
    return float(np.mean(positives) - np.mean(everything))


def time_labels(identity: NDArray[np.int64], seconds: Array, width: float) -> Array:
    """[v = v'] exp(-((t - t') / width)² / 2)."""
    n = len(identity)
    labels = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if identity[i] == identity[j]:
                labels[i, j] = np.exp(-(((seconds[i] - seconds[j]) / width) ** 2) / 2)
    return labels


def log_gradient(rows: Array, c: float) -> float:
    """mean log |dK/ds| by a central difference in s = squared distance."""
    step, values = 1e-5, []
    for x in rows:
        for y in rows:
            s = ((x - y) ** 2).sum()
            slope = (c / np.sqrt(s + step + c**2) - c / np.sqrt(s - step + c**2)) / (2 * step)
            values.append(np.log(abs(slope)))
    return float(np.mean(values))
