"""SIGReg: views of a video agree, and the rows of a batch look Gaussian along every direction. No teacher, no negatives.

Balestriero & LeCun 2025, "LeJEPA", arXiv 2511.08544. Along a unit direction the rows are compared with N(0, 1) by their
characteristic function (Epps & Pulley 1983); over many random directions that holds the rows to N(0, I).

    >>> loss = SIGReg()([z1, z2]).loss            # z1, z2 (B, d), not normalised
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from vidssl.errors import VidsslError, check_value
from vidssl.objectives.base import BatchInfo, DrawingObjective, ObjectiveOutput, Views, check_views


def gaussianity(z: Tensor, directions: Tensor, knots: int = 17, t_max: float = 3.0) -> Tensor:
    """N ∫ |mean_i exp(i t <a, z_i>) - exp(-t²/2)|² exp(-t²/2) dt over |t| <= t_max, mean over the directions a.

    Rows drawn from N(0, I) have about 1.05 on average, whatever N and d; rows that are all zero have 0.40 N.

    Args:
        z: (..., N, d) rows; a statistic for each of the leading axes, of which the mean is taken.
        directions: (d, K), unit columns, see `draw_directions`.
        knots: at t = 0, ..., t_max, of the trapezoidal rule; the integrand is even.
        t_max: where the integral ends.

    Returns:
        Scalar, at least 0.
    """
    statistic: Tensor = _EppsPulley.apply(z @ directions, knots, t_max)
    return statistic.mean()


def draw_directions(dim: int, count: int, generator: torch.Generator, like: Tensor) -> Tensor:
    """(dim, count) unit columns, evenly distributed, of the type and device of `like`; drawn on the CPU."""
    drawn = torch.randn(dim, count, generator=generator).to(like)
    unit: Tensor = drawn / torch.linalg.vector_norm(drawn, dim=0)
    return unit


class SIGReg(DrawingObjective):
    """(1 - λ) · mean square distance of views from their centre + λ · `gaussianity` of every view.

    Args:
        sigreg_weight: λ, in [0, 1]; published: 0.05 (images), 0.02 (video).
        num_directions: fresh ones every step, the same on all processes.
        knots, t_max: see `gaussianity`.
        global_views: the centre is the mean of the first so many views, the ones that show most; None: of all.
        seed: of the directions; give it the same value on every process.
    """

    log_name = "sigreg"
    default_projector = (1024, 256)

    def __init__(
        self,
        sigreg_weight: float = 0.05,
        num_directions: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        global_views: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        check_value("sigreg_weight", sigreg_weight, 0 <= sigreg_weight <= 1, "in [0, 1]")
        check_value("num_directions", num_directions, num_directions >= 1, "at least 1")
        check_value("knots", knots, knots >= 2, "at least 2")
        check_value("t_max", t_max, t_max > 0, "positive")
        check_value("global_views", global_views, global_views is None or global_views >= 1, "at least 1")
        self.sigreg_weight, self.num_directions, self.global_views = (
            sigreg_weight,
            num_directions,
            global_views,
        )
        self.knots, self.t_max = knots, t_max

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads the student's projections. Logs: loss, invariance, gaussianity."""
        rows = [view.projection for view in student]
        check_views(rows, "sigreg")
        z = torch.stack(rows)
        if self.global_views is not None and self.global_views > len(z):
            raise VidsslError(f"sigreg: global_views={self.global_views}: there are {len(z)} views")
        invariance = (z - z[: self.global_views].mean(dim=0)).square().mean()
        directions = draw_directions(z.shape[2], self.num_directions, self.generator, z)
        statistic = gaussianity(z, directions, self.knots, self.t_max)
        loss = (1 - self.sigreg_weight) * invariance + self.sigreg_weight * statistic
        return ObjectiveOutput(loss, {"loss": loss, "invariance": invariance, "gaussianity": statistic})


class _EppsPulley(torch.autograd.Function):
    """(..., N, K) numbers to the statistics (..., K) of its columns.

    The knots are multiples of a step, so exp(i t x) at the next knot is a product. Written out for autograd it would be a
    sine and a cosine of every number at every knot, forward and backward, and their memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, knots: int, t_max: float) -> Tensor:
        t = torch.linspace(0, t_max, knots, dtype=x.dtype, device=x.device)[1:]  # at 0 nothing can differ
        target = torch.exp(-t.square() / 2)
        weights = 2 * t_max / (knots - 1) * target
        weights[-1] /= 2
        turn = torch.polar(torch.ones_like(x), x * t[0])
        power, errors = turn.clone(), []
        for k, value in enumerate(target):
            if k:
                power.mul_(turn)
            errors.append(power.mean(dim=-2) - value)
        error = torch.stack(errors, dim=-1)
        ctx.save_for_backward(turn, error, weights * t)
        statistic: Tensor = x.shape[-2] * (error.abs().square() @ weights)
        return statistic

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, cotangent: Tensor) -> tuple[Tensor, None, None]:
        """Σ_k 2 w_k t_k Re(i conj(error_k) turn^k), by Horner's rule."""
        turn, error, weighted = ctx.saved_tensors
        factors = 2j * weighted * error.conj() * cotangent[..., None]
        total = torch.zeros_like(turn)
        for factor in reversed(factors.unbind(dim=-1)):
            total = total.add_(factor[..., None, :]).mul_(turn)
        return total.real, None, None
