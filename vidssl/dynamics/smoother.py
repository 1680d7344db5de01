"""Rauch-Tung-Striebel smoother: what the whole sequence says of every step. It looks ahead: for analysis and EM, never
for a loss that predicts.

    G_t = P_t A_{t+1}ᵀ (P_{t+1}^-)^{-1}
    xs_t = x_t + G_t (xs_{t+1} - x_{t+1}^-)
    Ps_t = U_t + G_t Ps_{t+1} G_tᵀ,    U_t = (I - G_t A) P_t (I - G_t A)ᵀ + G_t Q G_tᵀ

(Rauch, Tung & Striebel 1965.) G and U are the gain and the covariance of a filter's update of P_t by an "observation" of
x_{t+1}, with A for C and Q for R. Ps is a sum of congruences, where the usual P + G (Ps - P^-) Gᵀ is a difference.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, compact, in_one_precision, sequences, symmetric
from vidssl.dynamics._engine.recurrence import congruence_recurrence, linear_recurrence
from vidssl.dynamics._engine.results import FilterResult
from vidssl.dynamics._engine.riccati import check_method, covariance_pass

# Matrices looked back from at a time on a CPU: what stays in a core's cache.
CPU_ROWS = 2048


class SmootherResult(NamedTuple):
    """Moments given the whole sequence.

    Attributes:
        mean: (…, T, n) E[x_t | z].
        cov: (…, T, n, n) its covariance.
        lag_one_cov: (…, T - 1, n, n), entry t is Cov(x_{t+1}, x_t | z).
    """

    mean: Tensor
    cov: Tensor
    lag_one_cov: Tensor


def rts_smoother(result: FilterResult, A: Tensor, Q: Tensor, method: str = "joseph") -> SmootherResult:
    """Moments of every state given all observations.

    Args:
        result: of `kalman_filter`, run with the same A and Q.
        A, Q: as given to the filter: (n, n), (T, n, n) or (…, T, n, n); A[0] and Q[0] are not used.
        method: as for the filter, and best the same: "joseph", "sqrt" or "scan".

    Returns:
        SmootherResult(mean (…, T, n), cov (…, T, n, n), lag_one_cov (…, T - 1, n, n)), lag_one_cov[t] being
        Cov(x_{t+1}, x_t | z). Differentiable. Where P^- is singular its pseudo-inverse is used.

    Raises:
        VidsslError: for wrong shapes, or an A or Q that is not finite, symmetric or positive semi-definite.
    """
    name = "rts_smoother"
    check_method(name, method)
    parallel = method == "scan"
    with torch.autocast(result.filt_mean.device.type, enabled=False):
        means = {"filt_mean": result.filt_mean, "pred_mean": result.pred_mean}
        x = in_one_precision(name, {"A": A, "Q": Q, **means, "filt_cov": result.filt_cov})
        *batch, steps, n = x["filt_mean"].shape
        layout = Layout(name, steps, batch, of="result")
        layout.read(x, n, 0)
        layout.check_values(x)
        A, Q = layout.matrices(x["A"])[1:], symmetric(layout.matrices(x["Q"])[1:])
        filt = layout.matrices(compact(x["filt_cov"], 2))
        gain, spread = _look_back(filt[:-1], A, Q, method)
        columns = gain.shape[1] == 1
        filt_mean, pred_mean = (layout.vectors(x[key], columns) for key in means)
        last = filt[-1].expand(gain.shape[1], n, n)
        cov = congruence_recurrence(gain, spread, last, reverse=True, parallel=parallel)
        terms = filt_mean[:-1] - gain @ pred_mean[1:]
        mean = linear_recurrence(gain, terms, filt_mean[-1], reverse=True, parallel=parallel)
        return SmootherResult(
            layout.vectors_back(mean),
            layout.matrices_back(symmetric(cov)),
            layout.matrices_back(cov[1:] @ gain.mT),
        )


def _look_back(P: Tensor, A: Tensor, Q: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """G and U of all steps, (S, b, n, n), at once."""
    shape = len(P), sequences(P, A, Q), *P.shape[2:]
    flat = [x.expand(shape).flatten(0, 1) for x in (P, A, Q)]
    rows = CPU_ROWS if P.device.type == "cpu" else max(len(flat[0]), 1)
    parts = [_one_step(P, A, Q, method) for P, A, Q in zip(*(x.split(rows) for x in flat), strict=True)]
    gain, spread = (torch.cat(x).view(shape) for x in zip(*parts, strict=True))
    return gain, spread


def _one_step(P: Tensor, A: Tensor, Q: Tensor, method: str) -> tuple[Tensor, Tensor]:
    """G and U of (N, n, n): the sequences of a covariance pass of one step."""
    if not len(P):
        return P, P
    nothing = A.new_empty(0, *A.shape)
    passed = covariance_pass(P, nothing, nothing, A[None], Q[None], method)
    gain, spread = passed.gain[0], passed.filt[0]
    if bool(passed.failed.any()):
        singular = (passed.failed[0] != 0)[:, None, None]
        eye = torch.eye(P.shape[-1]).to(P)
        # Harmless stand-ins: the derivative of what is not used must be defined too.
        passed = covariance_pass(P, nothing, nothing, A[None], torch.where(singular, eye, Q)[None], method)
        gain = P @ A.mT @ torch.linalg.pinv(torch.where(singular, A @ P @ A.mT + Q, eye), hermitian=True)
        keep = eye - gain @ A
        spread = keep @ P @ keep.mT + gain @ Q @ gain.mT
        gain = torch.where(singular, gain, passed.gain[0])
        spread = torch.where(singular, spread, passed.filt[0])
    return gain, spread
