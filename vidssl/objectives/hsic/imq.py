"""HSIC with the inverse multiquadric kernel K(x, y) = c / sqrt(‖x - y‖² + c²), exactly, from one Gram matrix.

The backward pass is written by hand. It needs no second n × n matrix product, multiplies only for the rows that want
a gradient, and keeps two n × n matrices, K and the centred K.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.functional import pad

from vidssl.objectives.hsic.labels import LabelPairs
from vidssl.objectives.precision import full_precision, widen

# Half of float32's digits: a bandwidth below this is zero for all purposes.
MIN_SCALE = 1e-6
# A block row of 2,048 float32 columns is 2 MB, about a core's cache.
CPU_BLOCK_ROWS = 256


class ImqHsic(NamedTuple):
    """Scalars of one batch.

    Attributes:
        xy: HSIC(Z, Y), differentiable in the rows.
        xx: HSIC(Z, Z), biased, 1/n²; differentiable in the rows.
        mean_kernel: mean of K over all n² pairs.
        mean_square: mean of K² over all n² pairs.
        mean_log: mean of log K over all n² pairs (zero unless asked for).
        attraction: sum of weight_ij K_ij over the positive pairs, without gradient.
        within: of it the part of pairs of one view.
    """

    xy: Tensor
    xx: Tensor
    mean_kernel: Tensor
    mean_square: Tensor
    mean_log: Tensor
    attraction: Tensor
    within: Tensor


def bandwidth(scale: float | Tensor, like: Tensor) -> Tensor:
    """|scale|, away from zero, detached: the loss never trains the bandwidth, and its sign means nothing."""
    c = torch.as_tensor(scale, dtype=like.dtype, device=like.device).detach()
    return c.abs().clamp_min(MIN_SCALE)


def imq_hsic(
    rows: Tensor,
    scale: float | Tensor,
    pairs: LabelPairs,
    with_log: bool = False,
    trained: int | None = None,
) -> ImqHsic:
    """HSIC(Z, Y) for a label kernel and HSIC(Z, Z) = ‖H K H‖_F² / n².

    Args:
        rows: (n, d) float32 or wider, in the order that `pairs` numbers.
        scale: bandwidth c; receives no gradient.
        pairs: the label kernel.
        with_log: also compute `mean_log`, one more pass over K.
        trained: how many of the rows want a gradient, the first ones; all when None.

    The gradient with respect to `rows` is exact and can be taken once: second derivatives raise.
    """
    trained = len(rows) if trained is None else trained
    outputs = _ImqHsic.apply(rows, bandwidth(scale, rows), pairs, with_log, trained)
    return ImqHsic(*cast(tuple[Tensor, ...], outputs))


class _ImqHsic(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, c: Tensor, pairs: LabelPairs, with_log: bool, trained: int
    ) -> tuple[Tensor, ...]:
        y = rows / c
        n = y.shape[0]
        kernel = _unit_imq(y)
        row_mean = kernel.mean(dim=1)
        mean = row_mean.mean()
        # Centred before it is squared: expanding the square would cancel catastrophically near collapse.
        half = row_mean - mean / 2
        centred = (kernel - half[:, None]).sub_(half)
        flat = centred.view(-1)
        xx = torch.dot(flat, flat) / n**2
        values = kernel[pairs.first, pairs.second]
        xy = values @ pairs.weight - 2 * (pairs.marginal @ row_mean) + pairs.share * mean
        positive = (values * pairs.weight)[: pairs.positives]
        within = torch.zeros_like(mean) if pairs.same_view is None else positive @ pairs.same_view.to(y)
        mean_square = xx + 2 * (row_mean - mean).square().mean() + mean.square()
        mean_log = kernel.log().mean() if with_log else torch.zeros_like(mean)
        ctx.pairs, ctx.trained = pairs, trained
        ctx.save_for_backward(y, c, kernel, centred)
        watched = (mean, mean_square, mean_log, positive.sum(), within)
        ctx.mark_non_differentiable(*watched)
        return xy, xx, *watched

    @staticmethod
    def backward(ctx: Any, grad_xy: Tensor, grad_xx: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        # Gradients are recorded during a backward pass only for create_graph=True.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the exact HSIC can be differentiated once; create_graph=True needs rff features"
            )
        y, c, kernel, centred = ctx.saved_tensors
        pairs, n, g = ctx.pairs, y.shape[0], ctx.trained
        kernel = kernel[:g]
        # dL/dK = (2/n²) grad_xx HKH + grad_xy (w - a 1'/n - 1 a'/n + q/n²), of which w is sparse and comes last.
        slope = centred[:g] * (grad_xx * (2 / n**2))
        marginal = (pairs.share / (2 * n**2) - pairs.marginal / n) * grad_xy
        slope.add_(marginal[:g, None]).add_(marginal)
        rows = pairs.first < g
        first, second, weight = pairs.first[rows], pairs.second[rows], pairs.weight[rows]
        slope[first, second] += weight * grad_xy
        # K = (1 + s)^(-1/2) with s = ‖y - y'‖², so dK/ds = -K³/2; and each unordered pair occurs twice in L.
        slope.mul_(kernel).mul_(kernel).mul_(kernel)
        with full_precision(y):
            grad = torch.addmm(-slope.sum(dim=1, keepdim=True) * y[:g], slope, y)
        return pad(grad.mul_(2 / c), (0, 0, 0, n - g)), None, None, None, None


def _unit_imq(y: Tensor) -> Tensor:
    """(n, n) kernel 1 / sqrt(1 + ‖y_i - y_j‖²), exactly symmetric, ones on the diagonal.

    Block rows from the diagonal on, mirrored: less than two thirds of the multiplications, and each block passes
    through the root while it is in the cache. Other devices take one block, as launches cost more than they save.
    """
    n = y.shape[0]
    block = CPU_BLOCK_ROWS if y.device.type == "cpu" else n
    square = y.square().sum(dim=1)
    kernel = y.new_empty(n, n)
    for start in range(0, n, block):
        stop = min(start + block, n)
        rows = (square[start:stop, None] + 1) + square[start:]
        rows.addmm_(y[start:stop], y[start:].T, alpha=-2)
        # Rounding may make a squared distance negative; the kernel is at most 1.
        rows.clamp_min_(1).rsqrt_()
        kernel[start:stop, start:] = rows
        kernel[stop:, start:stop] = rows[:, stop - start :].T
    kernel.fill_diagonal_(1)
    return kernel


def log_gradient_from_moments(mean_square: Tensor, mean_log: Tensor, scale: Tensor) -> Tensor:
    """The bandwidth objective over all n² pairs of rows, from moments of K that are at hand anyway.

    With K = c (s + c²)^(-1/2):  mean log|dK/ds| = 3 mean log K - log 2 - 2 log c,  and its derivative with respect to
    c, at fixed rows, is (1 - 3 mean K²) / c. Value and derivative are those of `bandwidth_log_gradient`.

    Args:
        mean_square, mean_log: of the kernel at bandwidth |scale|.
        scale: the parameter; the result is differentiable in it, once.
    """
    c = scale.detach().abs().clamp_min(MIN_SCALE)
    value = 3 * mean_log - math.log(2) - 2 * c.log()
    slope = (1 - 3 * mean_square) / c * scale.detach().sign()
    return value + slope * (scale - scale.detach())


def bandwidth_log_gradient(x1: Tensor, x2: Tensor, scale: float | Tensor) -> Tensor:
    """How strongly the kernel reacts to distances: the quantity that is maximised over the bandwidth.

    0.5 · mean log max(1e-14, (dK/ds)²) over all pairs of a row of x1 and a row of x2, with s = ‖x - y‖² and
    dK/ds = -(c/2) (s + c²)^(-3/2). Its derivative in c is mean(1/c - 3c / (s + c²)); for s near 2, as between
    orthogonal unit rows, the maximum lies at c = 1 (kernel adaptation of SSL-HSIC, Li et al. 2021,
    arXiv 2106.08320, section 3.3).

    Args:
        x1: (n, d), x2: (m, d); neither receives a gradient.
        scale: bandwidth c, differentiable; only its absolute value counts.
    """
    x1, x2 = widen((x1.detach(), x2.detach()))
    with full_precision(x1):
        c = torch.as_tensor(scale, dtype=x1.dtype, device=x1.device).abs().clamp_min(MIN_SCALE)
        square = x1.square().sum(dim=1)[:, None] + x2.square().sum(dim=1) - 2 * x1 @ x2.T
        distance = square.clamp(0, 1e10)
        slope = 0.5 * c * (distance + c.square()).pow(-1.5)
        return 0.5 * slope.square().clamp_min(1e-14).log().mean()
