"""The means of a Kalman filter, given its gains: x_{t+1}^- = A_{t+1} (x_t^- + K_t (y_t - C_t x_t^-)) + b_{t+1}.

Forward it is a linear recurrence with the closed loop F_t = A_{t+1} (I - K_t C_t). A gradient with respect to F would be
a whole matrix per step and sequence; that with respect to its factors is made of vectors only.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor

from vidssl.dynamics._engine.recurrence import backward_in_full_precision, linear_recurrence, matmul_to
from vidssl.dynamics._engine.riccati import CovariancePass, closed_loop


def predicted_means(
    passed: CovariancePass, A: Tensor, C: Tensor, y: Tensor, b: Tensor | None, start: Tensor, parallel: bool
) -> Tensor:
    """x_t^- of all steps, (T, b, n, k); layout: `layout`.

    Args:
        passed: covariances; its gains have columns of 0 for missing entries.
        A: (T - 1, ·, n, n) transitions between the steps.
        C: (T, ·, m, n), rows of missing entries 0.
        y: (T, ·, m, k) observations less their offset.
        b: (T - 1, ·, n, ·) offsets of the state.
        start: (b, n, k) x_0^-.
        parallel: as a scan over time.
    """
    b = A.new_zeros(1, 1, 1, 1) if b is None else b
    inputs = (passed.closed_loop, A, passed.gain[:-1], C[:-1], y[:-1], b, start, parallel)
    return cast(Tensor, _PredictedMeans.apply(*inputs))


class _PredictedMeans(torch.autograd.Function):
    @staticmethod
    def forward(
        F: Tensor, A: Tensor, gain: Tensor, C: Tensor, y: Tensor, b: Tensor, start: Tensor, parallel: bool
    ) -> Tensor:
        terms = (A @ (gain @ y) + b).expand(len(A), *start.shape)
        return linear_recurrence(F, terms, start, parallel=parallel)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        F, A, gain, C, y, b, _, ctx.parallel = inputs
        ctx.b_shape = b.shape
        ctx.save_for_backward(F, A, gain, C, y, output)

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        F, A, gain, C, y, x = ctx.saved_tensors
        if torch.is_grad_enabled():
            F = closed_loop(A, gain, C)  # to be differentiated again
        adjoint = linear_recurrence(F.mT, grads[0][:-1], grads[0][-1], reverse=True, parallel=ctx.parallel)
        x, d_pred = x[:-1], adjoint[1:]
        innovation, d_filt = y - C @ x, A.mT @ d_pred
        d_innovation = gain.mT @ d_filt
        _, for_A, for_gain, for_C, for_y, for_b, *_ = ctx.needs_input_grad
        return (
            None,
            matmul_to(A.shape, d_pred, (x + gain @ innovation).mT) if for_A else None,
            matmul_to(gain.shape, d_filt, innovation.mT) if for_gain else None,
            -matmul_to(C.shape, d_innovation, x.mT) if for_C else None,
            d_innovation.sum_to_size(y.shape) if for_y else None,
            d_pred.sum_to_size(ctx.b_shape) if for_b else None,
            adjoint[0],
            None,
        )
