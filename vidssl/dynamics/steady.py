"""The covariance and the gain to which a filter with constant matrices settles, by doubling.

    P = A (P - P Cᵀ (C P Cᵀ + R)^{-1} C P) Aᵀ + Q          (discrete algebraic Riccati equation, P = P^-)

Each iteration doubles the number of filter steps done, so a handful suffice (Anderson & Moore 1979, section 6.7).
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.dynamics._engine.layout import Layout, in_one_precision, symmetric
from vidssl.errors import VidsslError

# 2^60 filter steps; what has not settled by then never will.
MAX_DOUBLINGS = 60


def steady_state(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> tuple[Tensor, Tensor]:
    """Limits of the filter's P^- and K = P^- Cᵀ (C P^- Cᵀ + R)^{-1}.

    Args:
        A, Q, C, R: (…, n, n), (…, n, n), (…, m, n), (…, m, m), constant in time; batch axes broadcast. R is positive
            definite.

    Returns:
        pred_cov (…, n, n) and gain (…, n, m), differentiable in all four.

    Raises:
        VidsslError: for wrong shapes or values, and when there is no limit that the prior does not matter for: a mode of
            A that does not decay and that C does not see, or that Q does not drive. Names its eigenvalue.
    """
    name = "steady_state"
    if A.ndim < 2 or A.shape[-1] != A.shape[-2] or C.ndim < 2:
        raise VidsslError(
            f"{name}: A has shape {tuple(A.shape)}, C {tuple(C.shape)}; they are (…, n, n), (…, m, n)"
        )
    n, m = A.shape[-1], C.shape[-2]
    with torch.autocast(A.device.type, enabled=False):
        x = in_one_precision(name, {"A": A, "Q": Q, "C": C, "R": R})
        layout = Layout(name, 1)
        layout.read(x, n, m, fixed="AQCR")
        layout.check_values(x)
        A, Q, C, R = (layout.matrices(x[key])[0] for key in "AQCR")
        pred = _double(A, symmetric(Q), C, symmetric(R))
        L = torch.linalg.cholesky(symmetric(C @ pred @ C.mT + R))
        gain = torch.cholesky_solve(C @ pred, L).mT
        pred, gain = (layout.matrices_back(x[None])[..., 0, :, :] for x in (pred, gain))
        return pred, gain


def _double(A: Tensor, Q: Tensor, C: Tensor, R: Tensor) -> Tensor:
    """P^- after 1, 2, 4, … filter steps from a known state, until it stands."""
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    # 2^k steps as one: h is P^- at their end, g the information they hold on the state before them, aᵀ the closed loop.
    g = C.mT @ torch.cholesky_solve(C, torch.linalg.cholesky(R))
    h: Tensor
    a, g, h = torch.broadcast_tensors(A.mT, g, Q)
    tolerance = 4 * torch.finfo(A.dtype).eps
    settled = torch.zeros(len(a), dtype=torch.bool, device=a.device)
    for _ in range(MAX_DOUBLINGS):
        solved, _ = torch.linalg.solve_ex(eye + g @ h, torch.cat([a, g], dim=-1))
        wa, wg = solved.split(len(eye), dim=-1)
        step = symmetric(a.mT @ h @ wa)
        a, g, h = a @ wa, symmetric(g + a @ wg @ a.mT), h + step
        # Where Q does not drive a mode, h stands although the closed loop does not decay.
        still = step.detach().abs().amax((-1, -2)) <= tolerance * h.detach().abs().amax((-1, -2))
        settled = still & (a.detach().abs().amax((-1, -2)) < 0.1)
        if bool(settled.all()):
            return h
        if not bool(torch.isfinite(h).all()):
            break
    index = int((~settled).nonzero()[0])
    A, Q, C = (x[min(index, len(x) - 1)] for x in (A, Q, C))
    of = f" of sequence {index}" if len(settled) > 1 else ""
    raise VidsslError(f"steady_state: no steady state{of}: {_reason(A, Q, C)}")


@torch.no_grad()
def _reason(A: Tensor, Q: Tensor, C: Tensor) -> str:
    """Which mode keeps the filter from settling (Popov-Belevitch-Hautus tests), in words."""
    A, Q, C = (x.to("cpu", torch.complex128) for x in (A, Q, C))
    eye = torch.eye(len(A), dtype=A.dtype)
    scale = 1e-4 * max(float(A.abs().max()), 1.0)
    unseen, undriven = "C does not see it", "Q does not drive it, so that the prior matters for ever"
    for value in sorted(torch.linalg.eigvals(A).tolist(), key=abs, reverse=True):
        if abs(value) < 1 - 1e-4:
            break
        spelled = f"{value.real:.4g}" + (f"{value.imag:+.4g}j" if value.imag else "")
        for x, axis, reason in ((C, 0, unseen), (Q, 1, undriven)):
            smallest = torch.linalg.svdvals(torch.cat([A - value * eye, x], dim=axis))[-1]
            if smallest < scale * max(float(x.abs().max()), 1e-12):
                return f"the mode of A with eigenvalue {spelled} does not decay, and {reason}"
    return f"P^- still changes after 2^{MAX_DOUBLINGS} steps"
