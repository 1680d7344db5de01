"""How a learned linear system moves on: four ways to write its transition matrix, and exact steps of any length.

"near_identity"  a free matrix, first I + noise, scaled to a spectral radius of 1/1.1
"rotation"       blocks r Rot(ω) with r < 1: stable, its eigenvalues r e^{±iω} can be read off
"orthogonal"     U diag(s) Vᵀ with U, V orthogonal and s < 1: stable, and no direction grows even for one step
"continuous"     A(dt) = expm(F dt): frames may lie at any moments in time
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

# Spectral radius at the start (Mikulasch & Zenke 2026, arXiv 2605.03517, released code).
START_RADIUS = 1 / 1.1
START_LOGIT = math.log(START_RADIUS / (1 - START_RADIUS))


# Of a start from latents: what a dimension keeps of itself a step, and how much of the drawn coupling between dimensions.
START_KEPT, START_COUPLING = (0.1, 0.98), 0.2
# Of `log_spectral_radius`: the error is below 1e-3 up to 16 dimensions and a condition of 1e6.
SQUARINGS = 14


class Transition(nn.Module):
    """The base of all: `forward` gives A (n, n) over one step, which is one time unit."""

    def forward(self) -> Tensor:
        raise NotImplementedError

    def rate(self) -> Tensor:
        """F (n, n) of the continuous form."""
        raise NotImplementedError

    def clamp_(self, bound: float) -> None:
        """Shrink A in place where its spectral radius exceeds `bound`; nothing to do where it cannot."""

    def start_at_(self, kept: Tensor, step: float) -> None:
        """Start where each dimension keeps so much of itself (n,) over `step` time units, where the form has a diagonal."""


class FreeMatrix(Transition):
    """A itself is the parameter; only `clamp_` keeps it from growing without bound."""

    def __init__(self, n: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        A = torch.eye(n) + 0.1 * torch.randn(n, n, generator=generator)
        self.A = nn.Parameter(A * (START_RADIUS / spectral_radius(A)))

    def forward(self) -> Tensor:
        return self.A

    @torch.no_grad()
    def clamp_(self, bound: float) -> None:
        self.A.mul_((bound / log_spectral_radius(self.A).exp()).clamp_max(1))

    @torch.no_grad()
    def start_at_(self, kept: Tensor, step: float) -> None:
        self.A.copy_(torch.diag(kept.clamp(*START_KEPT)) + START_COUPLING * _off_diagonal(self.A))


class Rotation(Transition):
    """r_i Rot(ω_i) on the planes of axes (i, n-1-i), r_i = sigmoid(raw), and a lone r for the axis in the middle.

    Axes are paired from both ends, so that with C = [I 0] and n <= 2m every plane is seen through one of its axes.
    """

    def __init__(self, n: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.angle = nn.Parameter(0.1 * torch.randn(n // 2, generator=generator))
        self.radius_logit = nn.Parameter(torch.full(((n + 1) // 2,), START_LOGIT))

    def forward(self) -> Tensor:
        half = len(self.angle)
        radius = self.radius_logit.sigmoid()
        lone = radius[half:]
        along, across = radius[:half] * self.angle.cos(), radius[:half] * self.angle.sin()
        diagonal = torch.cat([along, lone, along.flip(0)])
        anti = torch.cat([-across, torch.zeros_like(lone), across.flip(0)])
        return torch.diag(diagonal) + torch.diag(anti).flip(1)


class Orthogonal(Transition):
    """U diag(sigmoid(raw)) Vᵀ, U and V exponentials of antisymmetric matrices."""

    def __init__(self, n: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.left = nn.Parameter(0.1 * torch.randn(n, n, generator=generator))
        self.right = nn.Parameter(torch.zeros(n, n))
        self.gain_logit = nn.Parameter(torch.full((n,), START_LOGIT))

    def forward(self) -> Tensor:
        left, right = (torch.linalg.matrix_exp(w.tril(-1) - w.tril(-1).mT) for w in (self.left, self.right))
        return cast(Tensor, left * self.gain_logit.sigmoid() @ right.mT)


class Continuous(Transition):
    """dx = F x dt + noise: A = expm(F) over one time unit."""

    def __init__(self, n: int, generator: torch.Generator | None = None) -> None:
        super().__init__()
        F = 0.1 * torch.randn(n, n, generator=generator)
        self.F = nn.Parameter(F + (math.log(START_RADIUS) - growth_rate(F)) * torch.eye(n))

    def forward(self) -> Tensor:
        return cast(Tensor, torch.linalg.matrix_exp(self.F))

    def rate(self) -> Tensor:
        return self.F

    @torch.no_grad()
    def clamp_(self, bound: float) -> None:
        excess = log_spectral_radius(torch.linalg.matrix_exp(self.F)) - math.log(bound)
        self.F.diagonal().sub_(excess.clamp_min(0))

    @torch.no_grad()
    def start_at_(self, kept: Tensor, step: float) -> None:
        rate = torch.diag(kept.clamp(*START_KEPT).log() / step)
        self.F.copy_(rate + START_COUPLING * _off_diagonal(self.F))


TRANSITIONS: dict[str, Callable[[int, torch.Generator | None], Transition]] = {
    "near_identity": FreeMatrix,
    "rotation": Rotation,
    "orthogonal": Orthogonal,
    "continuous": Continuous,
}


def discretise(F: Tensor, Q: Tensor, dt: Tensor) -> tuple[Tensor, Tensor]:
    """Exact steps of dx = F x dt + dw, Cov(dw) = Q dt.

        A(dt) = expm(F dt),     Q(dt) = ∫_0^dt expm(F s) Q expm(F s)ᵀ ds

    The integral is read off the exponential of a block matrix (Van Loan 1978) over a step short enough that nothing
    in it grows, which is then doubled as often as needed: Q(2h) = A(h) Q(h) A(h)ᵀ + Q(h), a sum of covariances.

    Args:
        F, Q: (n, n).
        dt: (…) lengths of time, at least 0.

    Returns:
        A(dt), Q(dt): (…, n, n).
    """
    n = F.shape[0]
    size = (F.detach().abs().sum(1).amax() * dt.max()).item() if dt.numel() else 0.0
    doublings = max(math.ceil(math.log2(size)) + 1, 0) if size > 0 else 0
    h = (dt / 2**doublings)[..., None, None]
    block = torch.cat([torch.cat([-F, Q], dim=1), torch.cat([torch.zeros_like(F), F.mT], dim=1)])
    grown = torch.linalg.matrix_exp(block * h)
    A = grown[..., n:, n:].mT
    Qh = A @ grown[..., :n, n:]
    for _ in range(doublings):
        Qh, A = A @ Qh @ A.mT + Qh, A @ A
    return A, 0.5 * (Qh + Qh.mT)


def _off_diagonal(A: Tensor) -> Tensor:
    return A - torch.diag(A.diagonal())


def spectral_radius(A: Tensor) -> float:
    """Largest |eigenvalue| of (n, n)."""
    return float(eigenvalues(A).abs().max())


@torch.no_grad()
def log_spectral_radius(A: Tensor) -> Tensor:
    """log of a bound on the largest |eigenvalue| of (n, n), (): log of Gelfand's ‖A^N‖^{1/N}, N = 2^SQUARINGS.

    Too large by log(√n κ) / N where κ is the condition of the eigenvectors, and sums and products only: no eigenvalues, no
    synchronisation with a GPU.
    """
    sizes, tiny = [], torch.finfo(A.dtype).tiny
    for _ in range(SQUARINGS):
        sizes.append(torch.linalg.vector_norm(A).clamp_min(tiny))
        A = A / sizes[-1]
        A = A @ A
    sizes.append(torch.linalg.vector_norm(A).clamp_min(tiny))
    weights = 0.5 ** torch.arange(len(sizes), dtype=A.dtype, device=A.device)
    total: Tensor = (torch.stack(sizes).log() * weights).sum()
    return total


def growth_rate(F: Tensor) -> float:
    """Largest real part of the eigenvalues of (n, n)."""
    return float(eigenvalues(F).real.max())


def eigenvalues(A: Tensor) -> Tensor:
    """(n,) complex128, on the CPU, without gradient."""
    return cast(Tensor, torch.linalg.eigvals(A.detach().double().cpu()))
