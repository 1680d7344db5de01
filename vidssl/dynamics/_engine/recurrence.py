"""Affine recurrences over time, of vectors and of covariances, one step after another or as a parallel scan.

    vectors:      x_{t+1} = F_t x_t + g_t
    covariances:  X_{t+1} = F_t X_t F_tᵀ + U_t

The adjoint of either is the same recurrence with Fᵀ, running the other way, so each is one autograd function whose
backward pass calls itself: one or two matrix products per step in either direction, differentiable any number of times.
Layout: `layout.Layout`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, cast

import torch
from torch import Tensor

Elements = tuple[Tensor, ...]


def linear_recurrence(
    F: Tensor, g: Tensor, start: Tensor, reverse: bool = False, parallel: bool = False
) -> Tensor:
    """All x_t of x_{t+1} = F_t x_t + g_t, x_0 = start.

    Args:
        F: (S, b, n, n).
        g: (S, b, n, k).
        start: (b, n, k).
        reverse: x_t = F_t x_{t+1} + g_t with x_S = start instead.
        parallel: `associative_scan`, depth 2 log2 S, instead of S steps.

    Returns:
        (S + 1, b, n, k), `start` included.
    """
    return _recurrence(F, g, start, False, reverse, parallel)


def congruence_recurrence(
    F: Tensor, U: Tensor, start: Tensor, reverse: bool = False, parallel: bool = False
) -> Tensor:
    """All X_t of X_{t+1} = F_t X_t F_tᵀ + U_t, X_0 = start; `reverse` and `parallel` as in `linear_recurrence`.

    F and U are (S, b, n, n), start (b, n, n), symmetric or not; returns (S + 1, b, n, n).
    """
    return _recurrence(F, U, start, True, reverse, parallel)


def _recurrence(
    F: Tensor, terms: Tensor, start: Tensor, congruence: bool, reverse: bool, parallel: bool
) -> Tensor:
    if not len(F):
        return start[None]
    return cast(Tensor, _Recurrence.apply(F, terms, start, congruence, reverse, parallel))


def associative_scan(combine: Callable[[Elements, Elements], Elements], elements: Elements) -> Elements:
    """Inclusive scan along the first axis with an associative `combine(earlier, later)`, by odd-even reduction.

    Pairs of neighbours are combined, the sequence of pairs, half as long, is scanned, and the steps left out are filled
    in (Blelloch 1990): depth 2 log2 T, work 2 T.
    """
    steps = len(elements[0])
    if steps < 2:
        return elements
    paired = steps - steps % 2
    pairs = combine(tuple(x[0:paired:2] for x in elements), tuple(x[1:paired:2] for x in elements))
    odd = associative_scan(combine, pairs)
    out = tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in elements)
    for whole, part, x in zip(out, odd, elements, strict=True):
        whole[0] = x[0]
        whole[1::2] = part
    if steps > 2:
        later = tuple(x[2::2] for x in elements)
        even = combine(tuple(x[: len(later[0])] for x in odd), later)
        for whole, part in zip(out, even, strict=True):
            whole[2::2] = part
    return out


def backward_in_full_precision(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for the backward pass of an autograd function: autocast off, should the caller have left it on."""

    @wraps(backward)
    def wrapped(ctx: Any, *grads: Tensor | None) -> Any:
        device = next(grad.device.type for grad in grads if grad is not None)
        with torch.autocast(device, enabled=False):
            return backward(ctx, *grads)

    return wrapped


def matmul_to(shape: torch.Size, x: Tensor, y: Tensor) -> Tensor:
    """x @ y, (T, b, i, k), summed to `shape`; over many sequences as one product, without the summands."""
    if shape[1] == 1 and max(x.shape[1], y.shape[1]) > 1:
        return torch.einsum("tbij,tbjk->tik", x, y)[:, None]
    return x @ y


class _Recurrence(torch.autograd.Function):
    @staticmethod
    def forward(
        F: Tensor, terms: Tensor, start: Tensor, congruence: bool, reverse: bool, parallel: bool
    ) -> Tensor:
        if parallel:
            return _scan(_compose_congruence if congruence else _compose_linear, F, terms, start, reverse)
        steps = len(terms)
        x = terms.new_empty(steps + 1, *terms.shape[1:])
        x[steps if reverse else 0] = start
        before, after = (1, 0) if reverse else (0, 1)
        one = terms.shape[1] == 1
        product, fused = (torch.mm, torch.addmm) if one else (torch.bmm, torch.baddbmm)
        F = F.contiguous()
        states, added, maps = ((y[:, 0] if one else y).unbind() for y in (x, terms, F))
        if congruence:
            transposed = (F[:, 0] if one else F).mT.contiguous().unbind()
            mapped = torch.empty_like(states[0])
        for t in range(steps - 1, -1, -1) if reverse else range(steps):
            if congruence:
                product(maps[t], states[t + before], out=mapped)
                fused(added[t], mapped, transposed[t], out=states[t + after])
            else:
                fused(added[t], maps[t], states[t + before], out=states[t + after])
        return x

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        F, _, _, ctx.congruence, ctx.reverse, ctx.parallel = inputs
        ctx.save_for_backward(F, output)

    @staticmethod
    @backward_in_full_precision
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (F, x), (grad,), reverse = ctx.saved_tensors, grads, ctx.reverse
        inner, end = (grad[1:], grad[0]) if reverse else (grad[:-1], grad[-1])
        adjoint = _recurrence(F.mT, inner, end, ctx.congruence, not reverse, ctx.parallel)
        dterms, dstart = (adjoint[:-1], adjoint[-1]) if reverse else (adjoint[1:], adjoint[0])
        dF = None
        if ctx.needs_input_grad[0]:
            previous = x[1:] if reverse else x[:-1]
            if ctx.congruence:
                dF = dterms @ F @ previous.mT + dterms.mT @ F @ previous
            else:
                dF = matmul_to(F.shape, dterms, previous.mT)
        return dF, dterms, dstart, None, None, None


def _scan(
    combine: Callable[[Elements, Elements], Elements], F: Tensor, terms: Tensor, start: Tensor, reverse: bool
) -> Tensor:
    """All states of the recurrence whose steps (F, term) `combine` composes."""
    if reverse:
        F, terms = F.flip(0), terms.flip(0)
    # The start is a step that forgets what was before.
    F = torch.cat([torch.zeros_like(F[:1]), F])
    states = associative_scan(combine, (F, torch.cat([start[None], terms])))[1]
    return states.flip(0) if reverse else states


def _compose_linear(earlier: Elements, later: Elements) -> Elements:
    return later[0] @ earlier[0], later[0] @ earlier[1] + later[1]


def _compose_congruence(earlier: Elements, later: Elements) -> Elements:
    return later[0] @ earlier[0], later[0] @ earlier[1] @ later[0].mT + later[1]
