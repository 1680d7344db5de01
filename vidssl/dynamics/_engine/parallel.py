"""Covariance pass as a parallel scan over time (Särkkä & García-Fernández 2021, arXiv 1905.13002, lemmas 7-8).

An element (A, C, J) stands for a stretch of steps: the state at its end given the state before it is
N(A x + …, C), and its observations tell of the state before it with information J. Only the parts of the elements that
do not depend on the data are scanned; with the gains known, the means are a linear recurrence.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import sequences, symmetric
from vidssl.dynamics._engine.recurrence import Elements, associative_scan


def scan_pass(start: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, ...]:
    """P^-, P, K, L and the failure flags; arguments as in `riccati.covariance_pass`. Not differentiable by itself."""
    size = sequences(start, A, Q, C, R)
    n = C.shape[-1]
    if len(A) == len(C):
        first, A, Q = A[:1] @ start @ A[:1].mT + Q[:1], A[1:], Q[1:]
    else:
        first = start[None]
    first = symmetric(first).expand(1, size, n, n)
    filt = _update(first, C[:1], R[:1])[0]
    pred = first
    if len(A):
        elements = _elements(A.expand(-1, size, n, n), Q, C[1:], R[1:])
        initial = (torch.zeros_like(filt), filt, torch.zeros_like(filt))
        joined = tuple(torch.cat([x, y]) for x, y in zip(initial, elements, strict=True))
        filt = associative_scan(_combine, joined)[1]
        moved = A @ filt[:-1] @ A.mT + Q
        pred = torch.cat([first, symmetric(moved)])
    # Once more from P^-, so that gain, factor and P belong together to the last digit.
    filt, gain, factor, failed = _update(pred, C, R)
    return pred, filt, gain, factor, failed


def _update(pred: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, ...]:
    CM = C @ pred
    factor, failed = torch.linalg.cholesky_ex(CM @ C.mT + R)
    half = torch.linalg.solve_triangular(factor, CM, upper=False)
    gain = torch.linalg.solve_triangular(factor.mT, half, upper=True).mT
    keep = torch.eye(pred.shape[-1], dtype=pred.dtype, device=pred.device) - gain @ C
    filt = keep @ pred @ keep.mT + gain @ R @ gain.mT
    return symmetric(filt), gain, factor, failed


def _elements(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Elements:
    """Elements of single steps: transition into the step, then its observation."""
    filt, gain, factor, _ = _update(Q.expand_as(A), C, R)
    half = torch.linalg.solve_triangular(factor, C @ A, upper=False)
    return A - gain @ (C @ A), filt, half.mT @ half


def _combine(earlier: Elements, later: Elements) -> Elements:
    A1, C1, J1 = earlier
    A2, C2, J2 = later
    n = A1.shape[-1]
    mixed = torch.eye(n, dtype=A1.dtype, device=A1.device) + C1 @ J2
    solved = torch.linalg.solve(mixed, torch.cat([A1, C1], dim=-1))
    DA, DC = solved[..., :n], solved[..., n:]
    C = A2 @ DC @ A2.mT + C2
    J = A1.mT @ J2 @ DA + J1
    return A2 @ DA, symmetric(C), symmetric(J)
