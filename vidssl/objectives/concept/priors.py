"""What keeps self-distillation over fixed concepts from feeding a few of them: priors on the teacher's targets.

Some concept vectors are close to every video (hubs). A sharp softmax of plain cosines gives them the mass, training
reinforces that, and no head can absorb the bias. Most priors subtract one number per concept from the teacher's cosines
before the softmax, `strength` times:

    center     the running mean of the cosines (DINO, Caron et al. 2021, arXiv 2104.14294, here on cosines)
    log_prior  τ_t log π, π the running mean of softmax(ℓ/τ_t): targets divided by how often a concept is predicted
    sinkhorn   the offsets for which the batch and a queue give every concept the same mass (SwAV, Caron et al. 2020,
               arXiv 2006.09882)
    memax      none; the student's mean prediction is asked to have high entropy instead (MSN, Assran et al. 2022,
               arXiv 2204.07141)
    none       none; for ablations, since it collapses onto hubs

All assume that every concept is equally frequent, which is false when some names have no videos: `strength` below 1. What
attributes have is a known `frequency` instead, π_m = mean_k W_km if actions are equally frequent: targets are then corrected
towards π, by τ_t log π, and not towards the uniform.
Rows are those of the global batch, so that plain means are global; statistics follow the loss of their step.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.concept.losses import concept_probs
from vidssl.objectives.queue import RowQueue

PRIORS = ("center", "log_prior", "sinkhorn", "memax", "none")
# How much of the running mean a step keeps.
MOMENTUM = {"center": 0.9, "log_prior": 0.99}
# A concept that is never predicted would otherwise be lifted without bound.
LOG_PRIOR_FLOOR = 1e-6


class Prior(nn.Module):
    """No prior, and what all of them share: softmax((ℓ - strength · b) / τ) with b = 0.

    Args:
        concepts: K.
        strength: share of the bias that is subtracted, in [0, 1].
        frequency: (K,) expected share of each concept in all videos; None for the same of all.
    """

    log_frequency: Tensor

    def __init__(self, concepts: int, strength: float = 1.0, frequency: Tensor | None = None) -> None:
        super().__init__()
        self.strength = strength
        # log(K π), 0 for equal shares; of the words alone, hence out of the checkpoint
        expected = torch.full((concepts,), 1 / concepts) if frequency is None else frequency
        log = torch.zeros(concepts) if frequency is None else (expected / expected.mean()).log()
        self.register_buffer("log_frequency", log, persistent=False)

    @torch.no_grad()
    def forward(self, logits: Sequence[Tensor], temperature: float) -> list[Tensor]:
        """Targets.

        Args:
            logits: per view of the teacher (B, K) cosines.
            temperature: τ_t.

        Returns:
            Per view (B, K), rows that sum to 1, without gradient.
        """
        bias = self.bias(torch.cat(list(logits)), temperature)
        return [
            concept_probs(view, temperature, None if bias is None else self.strength * bias)
            for view in logits
        ]

    def bias(self, logits: Tensor, temperature: float) -> Tensor | None:
        """(K,) in units of cosines for the rows (N, K) at hand; None for no bias."""
        return None

    def update(self, logits: Sequence[Tensor], temperature: float) -> None:
        """Take the teacher's cosines of a step into the statistics; called after its loss, in training only."""

    def warm_start(self, logits: Tensor, temperature: float) -> None:
        """Replace the statistics by those of (N, K) cosines of a pass before training."""

    def regulariser(self, student_probs: Sequence[Tensor]) -> Tensor | None:
        """What the prior asks of the student's predictions, a scalar in nats; None for nothing."""
        return None


class RunningPrior(Prior):
    """A prior from a running mean over steps.

    Until something has been seen, the rows at hand stand in for the mean: zeros would leave the first targets biased.

    Args:
        concepts: K.
        momentum: m in mean <- m mean + (1 - m) statistic of the step.
        strength, frequency: see `Prior`.
    """

    mean: Tensor
    steps: Tensor

    def __init__(
        self, concepts: int, momentum: float, strength: float = 1.0, frequency: Tensor | None = None
    ) -> None:
        super().__init__(concepts, strength, frequency)
        self.momentum = momentum
        self.register_buffer("mean", torch.zeros(concepts))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    @abstractmethod
    def statistic(self, logits: Tensor, temperature: float) -> Tensor:
        """(K,) of rows (N, K)."""

    def current(self, logits: Tensor, temperature: float) -> Tensor:
        """(K,) the running mean, or the statistic of these rows where there is none yet."""
        return torch.where(self.steps > 0, self.mean.to(logits.dtype), self.statistic(logits, temperature))

    @torch.no_grad()
    def update(self, logits: Sequence[Tensor], temperature: float) -> None:
        rows = torch.cat(list(logits))
        new = self.statistic(rows, temperature)
        self.mean.copy_(self.momentum * self.current(rows, temperature) + (1 - self.momentum) * new)
        self.steps += 1

    @torch.no_grad()
    def warm_start(self, logits: Tensor, temperature: float) -> None:
        self.mean.copy_(self.statistic(logits, temperature))
        self.steps.fill_(1)


class CenterPrior(RunningPrior):
    """b = running mean of the cosines of all videos with each concept."""

    def statistic(self, logits: Tensor, temperature: float) -> Tensor:
        return logits.mean(dim=0)

    def bias(self, logits: Tensor, temperature: float) -> Tensor | None:
        return self.current(logits, temperature) - temperature * self.log_frequency.to(logits.dtype)


class LogPrior(RunningPrior):
    """b = τ log π, so that targets are proportional to softmax(ℓ/τ)/π^strength."""

    def statistic(self, logits: Tensor, temperature: float) -> Tensor:
        return concept_probs(logits, temperature).mean(dim=0)

    def bias(self, logits: Tensor, temperature: float) -> Tensor | None:
        predicted = self.current(logits, temperature).clamp_min(LOG_PRIOR_FLOOR).log()
        return temperature * (predicted - self.log_frequency.to(logits.dtype))


class SinkhornPrior(Prior):
    """b from Sinkhorn's iteration over the rows at hand and a queue of the teacher's latest rows.

    Equal mass for K concepts needs more than K rows, hence the queue.

    Args:
        concepts: K.
        queue_size: rows kept.
        strength, frequency: see `Prior`.
    """

    # Of normalising concepts, then rows.
    iterations = 3

    def __init__(
        self, concepts: int, queue_size: int = 4096, strength: float = 1.0, frequency: Tensor | None = None
    ) -> None:
        super().__init__(concepts, strength, frequency)
        self.queue = RowQueue(queue_size, concepts)

    def bias(self, logits: Tensor, temperature: float) -> Tensor | None:
        rows = torch.cat([logits, self.queue.rows.to(logits.dtype)])
        counted = torch.cat([torch.ones_like(logits[:, 0], dtype=torch.bool), self.queue.filled])
        scaled = rows / temperature
        # exp(scaled + of_row + of_concept) is the plan; both offsets are logarithms of scalings.
        of_row = torch.zeros_like(scaled[:, 0]).masked_fill(~counted, -torch.inf)
        of_concept = torch.zeros_like(scaled[0])
        for _ in range(self.iterations):
            of_concept = self.log_frequency.to(scaled.dtype) - torch.logsumexp(
                scaled + of_row[:, None], dim=0
            )
            of_row = (-torch.logsumexp(scaled + of_concept, dim=1)).masked_fill(~counted, -torch.inf)
        return -temperature * of_concept

    def update(self, logits: Sequence[Tensor], temperature: float) -> None:
        self.queue.append(torch.cat(list(logits)))

    def warm_start(self, logits: Tensor, temperature: float) -> None:
        self.queue.append(logits)


class MeMax(Prior):
    """Plain targets; the regulariser is minus the entropy of the student's prediction, mean over batch and views.

    With a frequency π it is log K less than the divergence KL(mean ‖ π), which is the same for equal shares.
    """

    def regulariser(self, student_probs: Sequence[Tensor]) -> Tensor | None:
        mean = torch.cat(list(student_probs)).mean(dim=0)
        # The floor keeps the derivative of p log p finite where every prediction underflows.
        log = mean.clamp_min(torch.finfo(mean.dtype).tiny).log() - self.log_frequency.to(mean.dtype)
        return (mean * log).sum()


def build_prior(
    name: str,
    concepts: int,
    momentum: float | None = None,
    strength: float = 1.0,
    queue_size: int = 4096,
    frequency: Tensor | None = None,
) -> Prior:
    """A prior by name.

    Args:
        name: one of PRIORS.
        concepts: K.
        momentum: of `center` (0.9 when None) and `log_prior` (0.99), in [0, 1).
        strength: of those that subtract a bias, in [0, 1].
        queue_size: of `sinkhorn`.
        frequency: (K,) expected share of each concept in all videos; None for the same of all.

    Raises:
        VidsslError: for an unknown name, a value outside, or an option that this prior does not have.
    """
    check_choice("prior", name, PRIORS)
    check_value("prior_strength", strength, 0 <= strength <= 1, "in [0, 1]")
    if name in ("memax", "none") and strength != 1:
        raise VidsslError(f"prior_strength={strength}: prior={name!r} subtracts nothing that it could weaken")
    if momentum is not None and name not in MOMENTUM:
        raise VidsslError(f"prior_momentum={momentum}: prior={name!r} has no running mean")
    check_value("prior_momentum", momentum, momentum is None or 0 <= momentum < 1, "in [0, 1)")
    if name in MOMENTUM:
        kind = CenterPrior if name == "center" else LogPrior
        return kind(concepts, MOMENTUM[name] if momentum is None else momentum, strength, frequency)
    if name == "sinkhorn":
        return SinkhornPrior(concepts, queue_size, strength, frequency)
    return MeMax(concepts, frequency=frequency) if name == "memax" else Prior(concepts)
