"""The Gaussian entropy of rows of which every batch has too few: the covariance is that of past batches as well.

    H = ½ log det Σ + D/2 (1 + log 2π),   Σ the running covariance,   ∂H/∂z_i = D Σ^{-1} (z_i - μ) / Σ_j |z_j - μ|²_Σ

The gradient is that of ½ log det of the population's covariance, without the noise of a small batch in its inverse, and of
such a length that c z has D log c more entropy in every batch, which is what the scale of latents hangs on.

    >>> running = RunningCovariance(16, memory=0.95)
    >>> loss = -running(z)                                             # z (N, 16)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.dynamics.kalman import LOG_2PI
from vidssl.errors import check_value
from vidssl.objectives.precision import full_precision, widen


class RunningCovariance(nn.Module):
    """Exponential averages over batches, in the state; they are updated in training only.

    Rows must be those of all processes, which then hold the same averages.

    Args:
        dim: D.
        memory: share of the past, in [0, 1): an average over about 1 / (1 - memory) batches, and a plain mean over the first
            ones. 0 is the covariance of the batch.
        eps: added to the diagonal, in units of the mean variance.

    Raises:
        VidsslError: for a memory out of range.
    """

    def __init__(self, dim: int, memory: float, eps: float = 1e-6) -> None:
        super().__init__()
        check_value("memory", memory, 0 <= memory < 1, "in [0, 1)")
        self.memory, self.eps = memory, eps
        self.mean: Tensor
        self.cov: Tensor
        self.weight: Tensor
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("cov", torch.zeros(dim, dim))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, z: Tensor, mask: Tensor | None = None) -> Tensor:
        """Nats; NaN where the covariance is not positive definite.

        Args:
            z: (N, D).
            mask: (N,) bool, rows that count; all when None.
        """
        with full_precision(z):
            z = widen(z)
            count = z.new_ones(len(z)) if mask is None else mask.to(z.dtype)
            rows = z if mask is None else torch.where(mask[:, None], z, 0)
            mean, cov, weight = self._updated(rows.detach(), count)
            if self.training:
                self.mean.copy_(mean)
                self.cov.copy_(cov)
                self.weight.copy_(weight)
            lift = self.eps * cov.diagonal().mean() * torch.eye(len(cov), dtype=cov.dtype, device=cov.device)
            factor, failed = torch.linalg.cholesky_ex(cov + lift)
            half_log_det = factor.diagonal().log().sum().masked_fill(failed != 0, torch.nan)
            whitened = torch.linalg.solve_triangular(factor, (rows - mean).mT, upper=False)
            size = (whitened.square().sum(0) * count).sum()
            moved = 0.5 * len(cov) * (size.log() - size.detach().log())
            entropy: Tensor = half_log_det + moved + len(cov) / 2 * (1 + LOG_2PI)
            return entropy

    @torch.no_grad()
    def _updated(self, rows: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The averages with this batch in them."""
        total = count.sum()
        mean = (rows * count[:, None]).sum(0) / total
        centred = (rows - mean) * count[:, None]
        cov = centred.mT @ centred / (total - 1)
        weight = self.memory * self.weight + 1
        share, apart = 1 / weight, mean - self.mean
        between = share * (1 - share) * torch.outer(apart, apart)
        return self.mean + share * apart, (1 - share) * self.cov + share * cov + between, weight
