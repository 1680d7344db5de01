"""Oracles for linear-Gaussian models: random models, conditioning of the joint Gaussian, and statsmodels."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.dynamics.kalman import StateSpace


def covariance(*shape: int, generator: torch.Generator, rank: int | None = None) -> Tensor:
    """Random positive definite (…, k, k), or of lower rank."""
    k = shape[-1]
    root = torch.randn(*shape[:-1], rank or k + 1, generator=generator, dtype=torch.float64)
    return root @ root.mT / k


def random_model(
    n: int,
    m: int,
    seed: int = 0,
    time: int | None = None,
    batch: tuple[int, ...] = (),
    varying: str = "AQCRbd",
    radius: float = 0.95,
    offsets: bool = True,
) -> StateSpace:
    """A float64 model whose arguments named in `varying` have a time axis of `time` and batch axes."""
    generator = torch.Generator().manual_seed(seed)

    def lead(name: str) -> tuple[int, ...]:
        return (*batch, time) if time is not None and name in varying else ()

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    A = randn(*lead("A"), n, n)
    A = radius * A / torch.linalg.eigvals(A).abs().amax(-1)[..., None, None]
    start = batch if time is not None and "0" in varying else ()
    return StateSpace(
        A=A,
        Q=covariance(*lead("Q"), n, n, generator=generator),
        C=randn(*lead("C"), m, n),
        R=covariance(*lead("R"), m, m, generator=generator) + 0.1 * torch.eye(m),
        m0=randn(*start, n),
        P0=covariance(*start, n, n, generator=generator),
        b=randn(*lead("b"), n) if offsets else None,
        d=randn(*lead("d"), m) if offsets else None,
    )


def observations(*shape: int, seed: int = 0, missing: float = 0.0) -> Tensor:
    """Random (…, T, m); with `missing`, some entries and some whole steps are NaN."""
    generator = torch.Generator().manual_seed(1000 + seed)
    z = torch.randn(*shape, generator=generator, dtype=torch.float64)
    gone = torch.rand(*shape, generator=generator) < missing
    gone |= torch.rand(*shape[:-1], 1, generator=generator) < missing / 2
    return z.masked_fill(gone, math.nan)


def at(x: Tensor | None, t: int, core: int) -> np.ndarray[Any, Any]:
    """Entry t of an argument without batch axes."""
    assert x is not None
    return (x[t] if x.ndim > core else x).numpy()


class Joint(NamedTuple):
    """Mean and covariance of all states, stacked (T n), and how the observations (T m) hang on them."""

    mean: np.ndarray[Any, Any]
    cov: np.ndarray[Any, Any]
    H: np.ndarray[Any, Any]
    noise: np.ndarray[Any, Any]
    offset: np.ndarray[Any, Any]


def joint(model: StateSpace, steps: int, predict_first: bool) -> Joint:
    """The joint Gaussian of a whole sequence, x = M (m0 + …), written down without any recursion over beliefs."""
    n, m = model.A.shape[-1], model.C.shape[-2]
    # x is a linear map of the independent x_prior, w_0 … w_{T-1}.
    to_x = np.zeros((steps, n, n * (steps + 1)))
    mean = np.zeros((steps, n))
    row, centre = np.zeros((n, n * (steps + 1))), model.m0.numpy()
    row[:, :n] = np.eye(n)
    sources = np.zeros((n * (steps + 1),) * 2)
    sources[:n, :n] = model.P0.numpy()
    H, noise, offset = np.zeros((steps * m, steps * n)), np.zeros((steps * m,) * 2), np.zeros(steps * m)
    for t in range(steps):
        if t or predict_first:
            A, here = at(model.A, t, 2), slice(n * (t + 1), n * (t + 2))
            row = A @ row
            row[:, here] += np.eye(n)
            sources[here, here] = at(model.Q, t, 2)
            centre = A @ centre + at(model.b, t, 1)
        to_x[t], mean[t] = row, centre
        z, x = slice(t * m, (t + 1) * m), slice(t * n, (t + 1) * n)
        H[z, x], noise[z, z], offset[z] = at(model.C, t, 2), at(model.R, t, 2), at(model.d, t, 1)
    flat = to_x.reshape(steps * n, -1)
    return Joint(mean.ravel(), flat @ sources @ flat.T, H, noise, offset)


def condition(
    law: Joint, z: np.ndarray[Any, Any], upto: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean and covariance of all states given the observed entries of the first `upto` steps of z (T, m)."""
    seen = np.zeros(z.size, dtype=bool)
    seen[: upto * z.shape[1]] = True
    seen &= ~np.isnan(z.ravel())
    H = law.H[seen]
    S = H @ law.cov @ H.T + law.noise[np.ix_(seen, seen)]
    gain = np.linalg.solve(S, H @ law.cov).T
    residual = z.ravel()[seen] - H @ law.mean - law.offset[seen]
    return law.mean + gain @ residual, law.cov - gain @ H @ law.cov


def log_density(law: Joint, z: np.ndarray[Any, Any], upto: int) -> float:
    """log p of the observed entries of the first `upto` steps."""
    seen = np.zeros(z.size, dtype=bool)
    seen[: upto * z.shape[1]] = True
    seen &= ~np.isnan(z.ravel())
    H = law.H[seen]
    S = H @ law.cov @ H.T + law.noise[np.ix_(seen, seen)]
    residual = z.ravel()[seen] - H @ law.mean - law.offset[seen]
    _, log_det = np.linalg.slogdet(S)
    return float(
        -0.5 * (residual @ np.linalg.solve(S, residual) + log_det + seen.sum() * math.log(2 * math.pi))
    )


def statsmodels_smoother(model: StateSpace, z: Tensor, predict_first: bool) -> Any:
    """statsmodels' results for one sequence z (T, m). Its transitions lead out of a step, ours into it."""
    from statsmodels.tsa.statespace.kalman_smoother import KalmanSmoother

    steps, m = z.shape
    n = model.A.shape[-1]
    oracle = KalmanSmoother(k_endog=m, k_states=n, k_posdef=n)
    oracle.bind(z.numpy().copy())
    # Otherwise the covariances stop being updated near the steady state.
    oracle.tolerance = 0
    after = [min(t + 1, steps - 1) for t in range(steps)]
    oracle["transition"] = np.stack([at(model.A, t, 2) for t in after], -1)
    oracle["state_cov"] = np.stack([at(model.Q, t, 2) for t in after], -1)
    oracle["state_intercept"] = np.stack([at(model.b, t, 1) for t in after], -1)
    oracle["selection"] = np.eye(n)
    oracle["design"] = np.stack([at(model.C, t, 2) for t in range(steps)], -1)
    oracle["obs_cov"] = np.stack([at(model.R, t, 2) for t in range(steps)], -1)
    oracle["obs_intercept"] = np.stack([at(model.d, t, 1) for t in range(steps)], -1)
    mean, cov = model.m0.numpy(), model.P0.numpy()
    if predict_first:
        A = at(model.A, 0, 2)
        mean, cov = A @ mean + at(model.b, 0, 1), A @ cov @ A.T + at(model.Q, 0, 2)
    oracle.initialize_known(mean, cov)
    return oracle.smooth()
