"""Covariance pass on triangular square roots: the condition numbers are those of the roots, half the digits are saved.

    L_t^- L_t^-ᵀ = P_t^-:   tria [A L  Q^½]                  tria [R^½  C L^-]     [L_S  0]
                                                                  [ 0     L^-]  =  [Ḡ    L]
    K = Ḡ L_S^{-1},  P = L Lᵀ

tria M is the lower triangle Rᵀ of the QR decomposition Mᵀ = O R, columns turned to a positive diagonal.
(Kaminski, Bryson & Schmidt 1971.)
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import compact, sequences


def square_root_pass(start: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, ...]:
    """P^-, P, K, L and the failure flags; arguments as in `riccati.covariance_pass`. Not differentiable by itself."""
    steps, (m, n) = len(C), C.shape[-2:]
    size = sequences(start, A, Q, C, R)
    lead = () if size == 1 else (size,)
    first = steps - len(A)
    root_Q, root_R, L = square_root(Q), square_root(R), square_root(start).expand(size, n, n)
    if size == 1:
        A, C, root_Q, root_R, L = A[:, 0], C[:, 0], root_Q[:, 0], root_R[:, 0], L[0]
    new = start.new_empty
    pred, filt = new(steps, *lead, n, n), new(steps, *lead, n, n)
    gain, factor = new(steps, *lead, n, m), new(steps, *lead, m, m)
    # Transposed pre-arrays; what never changes is written once.
    predict, update = new(*lead, 2 * n, n), start.new_zeros(*lead, m + n, m + n)
    for t in range(steps):
        if t >= first:
            predict[..., :n, :] = (A[t - first] @ L).mT
            predict[..., n:, :] = root_Q[t - first].mT
            L = _lower(predict)
        pred[t] = L
        update[..., :m, :m] = root_R[t].mT
        update[..., m:, :m] = (C[t] @ L).mT
        update[..., m:, m:] = L.mT
        post = _lower(update)
        factor[t], gain[t], L = post[..., :m, :m], post[..., m:, :m], post[..., m:, m:]
        filt[t] = L
    if size == 1:
        pred, filt, gain, factor = (x[:, None] for x in (pred, filt, gain, factor))
    gain = torch.linalg.solve_triangular(factor, gain, upper=False, left=False)
    diagonal = factor.diagonal(dim1=-2, dim2=-1)
    failed = (~torch.isfinite(diagonal) | (diagonal == 0)).any(-1).to(torch.int32)
    return pred @ pred.mT, filt @ filt.mT, gain, factor, failed


def square_root(x: Tensor) -> Tensor:
    """A matrix Y with Y Yᵀ = x for each positive semi-definite x (…, n, n); the Cholesky factor where there is one."""
    shape, x = x.shape, compact(x, 2)
    root: Tensor
    root, failed = torch.linalg.cholesky_ex(x)
    if bool(failed.any()):
        values, vectors = torch.linalg.eigh(x)
        spread = vectors * values.clamp_min(0).sqrt()[..., None, :]
        root = torch.where((failed != 0)[..., None, None], spread, root)
    return root.expand(shape)


def _lower(transposed: Tensor) -> Tensor:
    upper = torch.linalg.qr(transposed, mode="r").R
    sign = torch.where(upper.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(upper.dtype)
    lower: Tensor = (sign[..., :, None] * upper).mT
    return lower
