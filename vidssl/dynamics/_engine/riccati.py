"""The covariances of a Kalman filter: they depend on the model and on what is missing, never on the values seen.

    P_t^- = A_t P_{t-1} A_tᵀ + Q_t                          S_t = C_t P_t^- C_tᵀ + R_t = L_t L_tᵀ
    K_t = P_t^- C_tᵀ S_t^{-1}                               P_t = (I - K_t C_t) P_t^- (I - K_t C_t)ᵀ + K_t R_t K_tᵀ

Three ways forward (Joseph form, square roots, parallel scan), one way back: the gain minimises P_t, so dP_t/dK_t = 0,
and the cotangent of P_t^- obeys the affine recurrence

    Λ_t = U_t + F_tᵀ Λ_{t+1} F_t,    F_t = A_{t+1} (I - K_t C_t),

with U_t what arrives from outside at step t. Everything else in the backward pass is batched over time. The gradient is
exact, is itself differentiable, and never passes through a QR or a Cholesky of a singular matrix. I - K C is nowhere
formed where a vector or a thin matrix is all that is multiplied by it.
"""

from __future__ import annotations

from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from vidssl.dynamics._engine.joseph import joseph_pass
from vidssl.dynamics._engine.layout import symmetric
from vidssl.dynamics._engine.parallel import scan_pass
from vidssl.dynamics._engine.recurrence import backward_in_full_precision, congruence_recurrence, matmul_to
from vidssl.dynamics._engine.square_root import square_root_pass
from vidssl.errors import check_choice

ENGINES = {"joseph": joseph_pass, "sqrt": square_root_pass, "scan": scan_pass}


class CovariancePass(NamedTuple):
    """(T, b, …) for T steps and b distinct sequences.

    Attributes:
        pred: (T, b, n, n) P^-.
        filt: (T, b, n, n) P.
        gain: (T, b, n, m) K.
        factor: (T, b, m, m) L, lower triangular.
        failed: (T, b) int; not 0 where S had no Cholesky factor.
        closed_loop: (T - 1, b, n, n) F, from P_t^- to P_{t+1}^-; a value without a derivative.
    """

    pred: Tensor
    filt: Tensor
    gain: Tensor
    factor: Tensor
    failed: Tensor
    closed_loop: Tensor


def check_method(function: str, method: str) -> None:
    """Raises a VidsslError that names the function unless `method` is one of `ENGINES`."""
    check_choice(function, method, ENGINES, "{name}: unknown method {value!r}{guess} (allowed: {allowed})")


def covariance_pass(start: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, method: str) -> CovariancePass:
    """Covariances, gains and innovation factors of all steps.

    Args:
        start: (b, n, n) covariance before the first transition, or of step 0 where A has one entry less than C.
        A, Q: (T, b, n, n), or (T - 1, b, n, n) when `start` is the prior of step 0 itself.
        C, R: (T, b, m, n) and (T, b, m, m). Every b is 1 or the same B.
        method: "joseph", "sqrt" or "scan".
    """
    return CovariancePass(*cast(tuple[Tensor, ...], _CovariancePass.apply(start, A, Q, C, R, method)))


def closed_loop(A: Tensor, gain: Tensor, C: Tensor) -> Tensor:
    """F_t = A_{t+1} (I - K_t C_t)."""
    return A - (A @ gain) @ C


class _CovariancePass(torch.autograd.Function):
    @staticmethod
    def forward(start: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor, method: str) -> tuple[Tensor, ...]:
        pred, filt, gain, factor, failed = ENGINES[method](start, A, Q, C, R)
        F = closed_loop(A[len(A) - len(C) + 1 :], gain[:-1], C[:-1])
        return pred, filt, gain, factor, failed, F

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        start, A, Q, C, R, ctx.method = inputs
        ctx.shapes = [x.shape for x in (start, A, Q, C, R)]
        *results, failed, F = output
        ctx.save_for_backward(start, A, C, *results, F)
        ctx.mark_non_differentiable(failed, F)
        ctx.set_materialize_grads(False)

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        start, A, C, pred, filt, gain, factor, F = ctx.saved_tensors
        dpred, dfilt, dgain, dfactor, *_ = grads
        for_start, for_A, for_Q, for_C, for_R, _ = ctx.needs_input_grad
        first = len(pred) - len(A)
        into = A if first else A[1:]  # transitions between steps
        if torch.is_grad_enabled():
            F = closed_loop(into, gain[:-1], C[:-1])  # to be differentiated again

        # What reaches P^- of each step directly, and C (times P^-, or past it) and R.
        U = torch.zeros_like(pred) if dpred is None else symmetric(dpred)
        dC_pred: list[Tensor] = []
        dC: list[Tensor] = []
        dR: list[Tensor] = []
        if dfactor is not None:
            dS = _cholesky_adjoint(factor, dfactor)
            dS_C = dS @ C
            U = U + C.mT @ dS_C
            dC_pred.append(2 * dS_C)
            dR.append(dS)
        if dgain is not None:
            X = torch.cholesky_solve(dgain.mT, factor)  # S^{-1} (dK)ᵀ
            X_gain = X @ gain
            X_keep = X - X_gain @ C
            U = U + symmetric(C.mT @ X_keep)
            dC_pred.append(X_keep)
            dC.append(-(gain.mT @ dgain @ gain.mT))
            dR.append(-symmetric(X_gain))
        if dfilt is not None:
            dfilt = symmetric(dfilt)
            half = dfilt - (dfilt @ gain) @ C
            U = U + half - C.mT @ (gain.mT @ half)

        parallel = ctx.method == "scan"
        adjoint = congruence_recurrence(F.mT, U[:-1], U[-1], reverse=True, parallel=parallel)

        found: list[Tensor | None] = [None, None, None, None, None]
        if for_start:
            found[0] = adjoint[0] if first else A[0].mT @ adjoint[0] @ A[0]
        if for_A:
            before = filt[:-1] if first else torch.cat([start.expand_as(filt[0])[None], filt[:-1]])
            found[1] = 2 * matmul_to(A.shape, adjoint[first:], A @ before)
        if for_Q:
            found[2] = adjoint[first:]
        if for_C or for_R:
            # Kᵀ times all that reaches P.
            weighted = (into @ gain[:-1]).mT @ adjoint[1:] @ into
            weighted = torch.cat([weighted, torch.zeros_like(gain[:1].mT)])
            weighted = weighted if dfilt is None else weighted + gain.mT @ dfilt
            weighted_gain = weighted @ gain
            if for_C:
                times_pred = sum(dC_pred, -2 * (weighted - weighted_gain @ C))
                found[3] = sum(dC, matmul_to(C.shape, times_pred, pred))
            if for_R:
                found[4] = sum(dR, weighted_gain)
        sums = [None if x is None else x.sum_to_size(s) for x, s in zip(found, ctx.shapes, strict=True)]
        return *sums, None


def _cholesky_adjoint(L: Tensor, dL: Tensor) -> Tensor:
    """Symmetric cotangent of S = L Lᵀ: sym(L^{-T} Φ(Lᵀ dL) L^{-1}), Φ the lower triangle with half its diagonal."""
    inner = (L.mT @ dL).tril()
    inner = inner - 0.5 * torch.diag_embed(inner.diagonal(dim1=-2, dim2=-1))
    half = torch.linalg.solve_triangular(L.mT, inner, upper=True)
    return symmetric(torch.linalg.solve_triangular(L, half, upper=False, left=False))
