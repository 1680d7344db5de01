"""Covariance pass in Joseph form (Bucy & Joseph 1968), in which an error of the gain counts only squared.

    P = (I - K C) P^- (I - K C)ᵀ + K R Kᵀ  =  H + (K R - H Cᵀ) Kᵀ,    H = P^- - K (C P^-)

Written the second way the products are fewer and smaller. H is already as small as P, so nothing cancels here that does
not in the first; the bracket is 0 up to rounding and takes out of H what the rounding of K and H put in.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import sequences


def joseph_pass(start: Tensor, A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, ...]:
    """P^-, P, K, L and the failure flags; arguments as in `riccati.covariance_pass`. Not differentiable by itself.

    What it costs for one sequence is mostly the calling of torch, so calls are few, and write to memory that is there.
    For many it is small products, which are faster when both factors are read along their rows: hence Rᵀ for R.
    """
    steps, (m, n) = len(C), C.shape[-2:]
    size = sequences(start, A, Q, C, R)
    one, first, new = size == 1, steps - len(A), start.new_empty
    product, fused = (torch.mm, torch.addmm) if one else (torch.bmm, torch.baddbmm)

    def per_step(x: Tensor) -> tuple[Tensor, ...]:
        return (x[:, 0] if one else x.expand(len(x), size, *x.shape[2:])).unbind()

    pred, filt = new(steps, size, n, n), new(steps, size, n, n)
    gain, factor = new(steps, size, n, m), new(steps, size, m, m)
    failed = torch.empty(steps, size, dtype=torch.int32, device=start.device)
    As, ATs, Qs, Cs, CTs, RTs = map(per_step, (A, A.mT.contiguous(), Q, C, C.mT, R.mT))
    Ms, Ps, Ks, Ls = map(per_step, (pred, filt, gain, factor))
    KTs = per_step(gain.mT) if one else (new(size, m, n),) * steps
    LTs, flags = per_step(factor.mT), (failed[:, 0] if one else failed).unbind()
    shapes = ((n, n), (n, n), (n, n), (m, n), (m, n), (m, m), (n, m))
    M, AP, H, CM, W, S, D = (new(size, *shape)[0] if one else new(size, *shape) for shape in shapes)
    MT, P = M.mT, start[0] if one else start.expand(size, n, n)
    for t in range(steps):
        if t >= first:
            product(As[t - first], P, out=AP)
            fused(Qs[t - first], AP, ATs[t - first], out=M)
            torch.lerp(M, MT, 0.5, out=Ms[t])
        else:
            Ms[t].copy_(P)
        product(Cs[t], Ms[t], out=CM)
        fused(RTs[t], CM, CTs[t], out=S)
        torch.linalg.cholesky_ex(S, out=(Ls[t], flags[t]))
        torch.linalg.solve_triangular(Ls[t], CM, upper=False, out=W)
        torch.linalg.solve_triangular(LTs[t], W, upper=True, out=KTs[t])
        if not one:
            Ks[t].copy_(KTs[t].mT)
        fused(Ms[t], Ks[t], CM, alpha=-1, out=H)
        product(Ks[t], RTs[t], out=D)
        fused(D, H, CTs[t], alpha=-1, out=D)
        P = fused(H, D, KTs[t], out=Ps[t])
        if not one:
            P.lerp_(P.mT.clone(), 0.5)
    return pred, torch.lerp(filt, filt.mT, 0.5) if one else filt, gain, factor, failed
