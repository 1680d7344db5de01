"""A recurrent predictor with a Gaussian around its guess: for latents whose motion is not linear.

    h_t = LSTM(z_0 … z_t),    z_{t+1} | z_0 … z_t ~ N(MLP(h_t), σ² I)

With a fixed σ this is the model for which Mikulasch & Zenke 2026 (arXiv 2605.03517, theorem 1) prove that the latents
are found up to an affine map. It never looks ahead: what it says of a frame depends on earlier frames alone.

    >>> predictor = RecurrentPredictor(latent_dim=2)
    >>> prediction = predictor(z)                       # z (B, T, 2); of frames 1 … T-1
    >>> loss = -innovation_log_likelihood(z[:, 1:] - prediction.mean, prediction.cov).sum(-1).mean()
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from vidssl.dynamics.moments import latent_moments
from vidssl.errors import VidsslError, check_choice

VARIANCES = ("fixed", "learned")
VARIANCE_FLOOR = 1e-5


class GaussianPrediction(NamedTuple):
    """mean (…, T - h, m) of frames h … T - 1 given all frames at least h earlier, and cov (m, m), the same for all."""

    mean: Tensor
    cov: Tensor


class RecurrentPredictor(nn.Module):
    """LSTM and MLP.

    Args:
        latent_dim: m.
        hidden_dim: of the LSTM.
        head: hidden layers of the MLP, with ReLU; () for a linear read-out.
        variance: "fixed" at `start_variance`, which also fixes the scale of z, or "learned", one per dimension.
        start_variance: σ².
        generator: of the start values; torch's global one when None.

    Raises:
        VidsslError: for sizes below 1, or an unknown or non-positive variance.
    """

    def __init__(
        self,
        latent_dim: int,
        hidden_dim: int = 64,
        head: Sequence[int] = (64, 64),
        variance: str = "fixed",
        start_variance: float = 1.0,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_choice("variance", variance, VARIANCES)
        if min(latent_dim, hidden_dim, *head) < 1:
            raise VidsslError(f"sizes {latent_dim}, {hidden_dim}, {list(head)}: all must be at least 1")
        if not start_variance > 0:
            raise VidsslError(f"start_variance={start_variance}: must be positive")
        self.latent_dim = latent_dim
        # The last input says whether the frame was seen.
        self.lstm = nn.LSTM(latent_dim + 1, hidden_dim, batch_first=True)
        layers: list[nn.Module] = []
        for width, dim in pairwise((hidden_dim, *head)):
            layers += [nn.Linear(width, dim), nn.ReLU()]
        self.head = nn.Sequential(*layers, nn.Linear((hidden_dim, *head)[-1], latent_dim))
        log_variance = torch.full((latent_dim,), start_variance).log()
        self.log_variance = nn.Parameter(log_variance, requires_grad=variance == "learned")
        if generator is not None:
            self._draw(generator)

    @property
    def learns_scale(self) -> bool:
        """Whether z could be measured in other units without a change of likelihood but for the volume."""
        return self.log_variance.requires_grad

    def forward(self, z: Tensor, mask: Tensor | None = None) -> GaussianPrediction:
        """The next frame.

        Args:
            z: (B, T, m), T of at least 2.
            mask: (B, T) bool, True where seen; a frame that was not seen says nothing (it may be NaN).

        Returns:
            mean (B, T - 1, m) of frames 1 … T - 1.
        """
        return self.multi_step(z, 1, mask)[0]

    def multi_step(self, z: Tensor, steps: int, mask: Tensor | None = None) -> list[GaussianPrediction]:
        """1, 2, … `steps` ahead of every frame, the mean of each step fed back as the next frame.

        Args:
            z, mask: as for `forward`.
            steps: from 1 to T - 1.

        Returns:
            Entry h - 1 holds (B, T - h, m) for frames h … T - 1. All have the one-step covariance: how errors
            accumulate is not modelled, so a learned variance should be trained on one step.

        Raises:
            VidsslError: for wrong shapes or steps outside 1 … T - 1.
        """
        if z.ndim != 3 or z.shape[-1] != self.latent_dim:
            raise VidsslError(f"z has shape {tuple(z.shape)}; it must be (B, T, {self.latent_dim})")
        if not 1 <= steps < z.shape[1]:
            raise VidsslError(
                f"steps={steps}: must be from 1 to {z.shape[1] - 1}, one less than the sequence"
            )
        seen = torch.ones_like(z[..., :1], dtype=torch.bool) if mask is None else mask[..., None]
        inputs = torch.cat([torch.where(seen, z, 0), seen.to(z.dtype)], dim=-1)[:, :-1]
        if steps == 1:
            return [GaussianPrediction(self.head(self.lstm(inputs)[0]), self.cov())]
        hidden, cell = self._states(inputs)
        mean = self.head(hidden)
        predictions = [GaussianPrediction(mean, self.cov())]
        for _ in range(1, steps):
            # The forecast from the last frame but h reaches the end of the sequence.
            mean, hidden, cell = mean[:, :-1], hidden[:, :-1], cell[:, :-1]
            fed_back = torch.cat([mean, torch.ones_like(mean[..., :1])], dim=-1)
            hidden, cell = self._cell(fed_back, hidden, cell)
            mean = self.head(hidden)
            predictions.append(GaussianPrediction(mean, self.cov()))
        return predictions

    @torch.no_grad()
    def calibrate_(self, z: Tensor, valid: Tensor | None = None, step: float = 1.0) -> None:
        """Start with the variance of latents (B, T, m), of those that are `valid`, where it is learned."""
        if self.learns_scale:
            self.log_variance.copy_(latent_moments(z, valid).variance.clamp_min(VARIANCE_FLOOR).log())

    def cov(self) -> Tensor:
        """(m, m) diagonal covariance of a step."""
        variance = self.log_variance.exp()
        return torch.diag(variance + VARIANCE_FLOOR if self.learns_scale else variance)

    def _draw(self, generator: torch.Generator) -> None:
        """The start that torch gives its layers: uniform within 1 / sqrt(inputs)."""
        for layer in (self.lstm, *self.head):
            size = layer.hidden_size if isinstance(layer, nn.LSTM) else getattr(layer, "in_features", 1)
            for parameter in layer.parameters():
                nn.init.uniform_(parameter, -(size**-0.5), size**-0.5, generator=generator)

    def _states(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """(B, T, H) hidden and cell states after every step; `nn.LSTM` gives the cell state of the last one only."""
        state = inputs.new_zeros(len(inputs), self.lstm.hidden_size)
        hidden, cell, states = state, state, []
        for x in inputs.unbind(dim=1):
            hidden, cell = self._cell(x, hidden, cell)
            states.append((hidden, cell))
        hiddens, cells = zip(*states, strict=True)
        return torch.stack(hiddens, dim=1), torch.stack(cells, dim=1)

    def _cell(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the LSTM on (…, m + 1) and states (…, H)."""
        lead, size = x.shape[:-1], self.lstm.hidden_size
        x, hidden, cell = (y.reshape(-1, y.shape[-1]) for y in (x, hidden, cell))
        hidden, cell = torch.lstm_cell(x, (hidden, cell), *self.lstm.all_weights[0])
        return hidden.reshape(*lead, size), cell.reshape(*lead, size)
