"""Distillation in the order of time: a video is named by what its frames show first, next and last.

An image model cannot see motion, but it can see where something is in each frame. A concept whose sentences describe
its phases in order, each of them what one frame shows ("a shape near the left", "a shape near the right"), is scored by how
much better each sentence fits its own part of the clip than it fits the clip as a whole:

    ℓ_k(clip) = mean_p [ cos(u_p, s_kp) - mean_q cos(u_q, s_kp) ]          teacher, no gradient
    loss = mean_uv H( softmax((ℓ(u) - b) / τ_t), softmax(cos(z(v), names) / τ_s) )

u_p is the mean frame of part p, s_kp sentence p of concept k, b the running mean of ℓ over videos. What all frames show
alike cancels in ℓ; a clip in which nothing changes has ℓ = 0. These scores teach the student to name the clip. It is the
direction description to name of concept alignment (Ranasinghe & Ryoo 2023, arXiv 2307.10922, re-implemented from its
description), with the order of the sentences taken at its word; the score is ours.

    >>> objective = ConceptPhases(space)       # a vidssl.concepts.space.ConceptSpace, its sentences in order
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import einsum
from torch import Tensor

from vidssl.errors import VidsslError, check_value
from vidssl.objectives.base import BatchInfo, Objective, ObjectiveOutput, Views
from vidssl.objectives.concept.losses import concept_distillation_loss, concept_logits
from vidssl.objectives.concept.priors import build_prior
from vidssl.objectives.concept.vectors import ConceptVectors, hash_of, hash_tensor, unit_matrices
from vidssl.objectives.precision import full_precision, widen


class PhaseVectors(ConceptVectors, Protocol):
    """A `vidssl.concepts.space.ConceptSpace`, or anything with these."""

    @property
    def sentences(self) -> Tensor:
        """(K, P, D) unit rows: the sentences of each concept in order, zero beyond their number."""

    @property
    def counts(self) -> Tensor:
        """(K,) int64: the number of sentences of each concept."""


def phase_logits(frames: Tensor, phases: Tensor) -> Tensor:
    """How much better the parts of a clip fit the phases of each concept in order than the clip fits them as a whole.

    Args:
        frames: (B, T, D) features of single frames, T >= P; normalised here. Frame t is in part floor(t P / T).
        phases: (K, P, D) unit rows.

    Returns:
        (B, K) mean over phases of the cosine of the part's mean frame with the phase, less that cosine's mean over all
        parts; float32 or wider. Each concept's phases in reverse order score the negative where there are two.

    Raises:
        VidsslError: for widths that differ, or fewer frames than phases.
    """
    count = phases.shape[1]
    if frames.ndim != 3 or frames.shape[2] != phases.shape[2] or frames.shape[1] < count:
        raise VidsslError(
            f"phases: frames {tuple(frames.shape)} for phases {tuple(phases.shape)}: must be (B, T, D) with T at least "
            f"{count} and D = {phases.shape[2]}"
        )
    with full_precision(frames):
        rows = F.normalize(widen(frames), dim=-1)
        part = torch.arange(frames.shape[1], device=frames.device) * count // frames.shape[1]
        member = F.one_hot(part, count).to(rows.dtype)
        parts = F.normalize(einsum(rows, member, "b t d, t p -> b p d"), dim=-1)
        changes = parts - parts.mean(dim=1, keepdim=True)
        return einsum(changes, phases.to(rows.dtype), "b p d, k p d -> b k") / count


class ConceptPhases(Objective):
    """Naming clips as their frames in time order are described. The teacher is the encoder as it was before training: an image
    model, with whatever it has over time at its zero start.

    Args:
        space: names as its category rows, phases as its sentences, the same number for each concept.
        student_temperature, teacher_temperature: τ_s, τ_t, of raw cosines.
        prior_momentum: of the running mean b.
    """

    log_name = "phases"
    needs_anchor_frames = True
    identity_head = True
    default_projector = ()

    category: Tensor
    phases: Tensor

    def __init__(
        self,
        space: PhaseVectors,
        student_temperature: float = 0.05,
        teacher_temperature: float = 0.02,
        prior_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        for name, value in (("student", student_temperature), ("teacher", teacher_temperature)):
            check_value(f"{name}_temperature", value, value > 0, "positive")
        counts = sorted(set(space.counts.tolist()))
        if len(counts) != 1 or counts[0] < 2:
            raise VidsslError(
                f"phases: concepts with {' or '.join(map(str, counts))} sentences: each needs the same number of "
                "phases, at least 2"
            )
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.space_hash = space.sha256
        self.register_buffer("category", unit_matrices(space)[0], persistent=False)
        self.register_buffer("phases", space.sentences.detach().clone(), persistent=False)
        self.prior = build_prior("center", len(self.category), prior_momentum, 1.0, len(self.category) + 1)

    def get_extra_state(self) -> Tensor:
        """The hash of the space as 32 bytes."""
        return hash_tensor(self.space_hash)

    def set_extra_state(self, state: Tensor) -> None:
        """Compares the hash.

        Raises:
            VidsslError: if the state belongs to another space.
        """
        if (found := hash_of(state)) != self.space_hash:
            raise VidsslError(
                f"phases: this state was trained with concept space {found[:12]}, here is {self.space_hash[:12]}; "
                "give the space that the run started with"
            )

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Clip features of the student's views against frame features that the initial encoder has of them.

        Logs: loss; `entropy`, mean entropy of the targets / log K (above 0.95 they teach nothing); `agreement`, share of
        views whose best name is that of their own target.

        Raises:
            VidsslError: without those frame features (`BatchInfo.anchor_frames`), one for each view.
        """
        frames = () if batch is None else batch.anchor_frames
        if len(frames) != len(student):
            raise VidsslError(
                f"phases: {len(frames)} views of the initial encoder (batch.anchor_frames) for {len(student)} of the student"
            )
        logits = [concept_logits(view.projection, self.category) for view in student]
        scores = [phase_logits(rows, self.phases) for rows in frames]
        targets = self.prior(scores, self.teacher_temperature)
        loss = concept_distillation_loss(logits, targets, self.student_temperature, skip_same_view=False)
        # A step that the trainer will skip leaves no trace.
        if self.training and bool(torch.isfinite(loss)):
            self.prior.update(scores, self.teacher_temperature)
        entropy = torch.stack([torch.special.entr(p).sum(dim=1).mean() for p in targets]).mean()
        same = [own.argmax(dim=1) == p.argmax(dim=1) for own, p in zip(logits, targets, strict=True)]
        logs = {
            "loss": loss,
            "entropy": entropy / math.log(len(self.category)),
            "agreement": torch.stack(same).to(loss.dtype).mean(),
        }
        return ObjectiveOutput(loss, logs)
