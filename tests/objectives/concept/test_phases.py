"""Distillation in the order of time."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.concept.phases import ConceptPhases, phase_logits


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double(), dim=-1)


def space(phases: torch.Tensor, counts: list[int] | None = None) -> SimpleNamespace:
    concepts, number, dim = phases.shape
    return SimpleNamespace(
        category=unit(concepts, dim, seed=9).float(),
        description=F.normalize(phases.sum(dim=1), dim=-1).float(),
        sentences=phases.float(),
        counts=torch.tensor(counts or [number] * concepts),
        sha256="0" * 64,
    )


def by_hand(frames: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """The definition, in loops."""
    (rows, length, _), (concepts, count, _) = frames.shape, phases.shape
    out = torch.zeros(rows, concepts, dtype=torch.float64)
    for b in range(rows):
        parts = []
        for p in range(count):
            own = [frames[b, t] / frames[b, t].norm() for t in range(length) if t * count // length == p]
            mean = torch.stack(own).mean(dim=0)
            parts.append(mean / mean.norm())
        for k in range(concepts):
            for p in range(count):
                fits = [float(part @ phases[k, p]) for part in parts]
                out[b, k] += (fits[p] - sum(fits) / count) / count
    return out


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 4), st.integers(0, 5), st.integers(0, 100))
def test_scores_are_those_of_the_definition(count: int, more: int, seed: int) -> None:
    frames = torch.randn(3, count + more, 6, generator=torch.Generator().manual_seed(seed)).double()
    phases = unit(4, count, 6, seed=seed + 1)
    torch.testing.assert_close(phase_logits(frames, phases), by_hand(frames, phases))


def test_what_does_not_change_scores_nothing_and_time_reversal_the_negative() -> None:
    phases, frames = unit(5, 2, 8), unit(3, 6, 8, seed=2)
    still = frames[:, :1].expand(-1, 6, -1)
    torch.testing.assert_close(phase_logits(still, phases), torch.zeros(3, 5).double(), atol=1e-12, rtol=0)
    forth = phase_logits(frames, phases)
    torch.testing.assert_close(phase_logits(frames.flip(1), phases), -forth)
    torch.testing.assert_close(phase_logits(frames, phases.flip(1)), -forth)


def test_the_loss_is_the_cross_entropy_with_names_and_teaches_only_the_student() -> None:
    phases = unit(4, 2, 8)
    objective = ConceptPhases(space(phases), student_temperature=0.1, teacher_temperature=0.05)
    z = torch.randn(6, 8, generator=torch.Generator().manual_seed(3)).requires_grad_()
    frames = torch.randn(6, 4, 8, generator=torch.Generator().manual_seed(4)).requires_grad_()
    batch = BatchInfo(torch.arange(6), anchor_frames=[frames])
    output = objective([HeadOutput(z, None, None)], None, batch)
    scores = by_hand(frames.detach().double(), phases)
    targets = ((scores - scores.mean(dim=0)) / 0.05).softmax(dim=1)
    cosines = F.normalize(z.detach().double(), dim=1) @ objective.category.double().T
    expected = -(targets * (cosines / 0.1).log_softmax(dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(output.loss.double(), expected, atol=1e-5, rtol=1e-5)
    entropy = torch.special.entr(targets).sum(dim=1).mean() / math.log(4)
    torch.testing.assert_close(output.logs["phases/entropy"].double(), entropy, atol=1e-5, rtol=1e-5)
    output.loss.backward()
    assert z.grad is not None and z.grad.abs().max() > 0
    assert frames.grad is None


def test_mistakes_are_named() -> None:
    phases = unit(3, 2, 8)
    with pytest.raises(VidsslError, match="1 or 2 sentences"):
        ConceptPhases(space(phases, [2, 1, 2]))
    with pytest.raises(VidsslError, match="at least 2"):
        ConceptPhases(space(phases[:, :1]))
    with pytest.raises(VidsslError, match="teacher_temperature"):
        ConceptPhases(space(phases), teacher_temperature=0.0)
    with pytest.raises(VidsslError, match="T at least 2"):
        phase_logits(torch.randn(2, 1, 8), phases)
    with pytest.raises(VidsslError, match="anchor_frames"):
        ConceptPhases(space(phases))([HeadOutput(torch.randn(2, 8), None, None)])
    state = ConceptPhases(space(phases)).state_dict()
    other = space(phases)
    other.sha256 = "1" * 64
    with pytest.raises(VidsslError, match="concept space"):
        ConceptPhases(other).load_state_dict(state)
