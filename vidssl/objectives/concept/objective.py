"""Self-distillation in a concept space: a video should be named and described as another view of it is.

    loss = λ_CD · distillation + λ_CA · alignment + λ_reg · anchor + λ_prior · prior
    distillation = ½ sum_a mean_uv H(P_t^a(u), P_s^a(v))                      a = category, description;  u ≠ v
    alignment = mean_uv [H(P_t^c(u), P_s^d(v)) + σ H(P_t^d(u), P_s^c(v))] / (1 + σ)

Re-implemented from the published description of LSS (Ranasinghe & Ryoo 2023, arXiv 2307.10922), whose equations and
hyper-parameters could not be consulted: formulas follow DINO (arXiv 2104.14294), hyper-parameters are ours.

    >>> objective = ConceptObjective(space)            # a vidssl.concepts.space.ConceptSpace
    >>> loss = objective([z1, z2], [t1, t2]).loss      # (B, D) clip features of two views: student's, teacher's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_value
from vidssl.objectives.base import (
    BatchInfo,
    Objective,
    ObjectiveOutput,
    Views,
    cross_view_pairs,
)
from vidssl.objectives.concept.losses import (
    anchor_cosine,
    concept_alignment_loss,
    concept_distillation_loss,
    concept_logits,
    concept_probs,
)
from vidssl.objectives.concept.monitors import ConceptMonitor
from vidssl.objectives.concept.priors import Prior, build_prior
from vidssl.objectives.concept.vectors import SPACES, ConceptVectors, hash_of, hash_tensor, unit_matrices
from vidssl.objectives.ramp import ramps


class _Space(NamedTuple):
    """Of one space, per view: cosines of the student and the teacher, targets."""

    student: list[Tensor]
    teacher: list[Tensor]
    targets: list[Tensor]


class ConceptObjective(Objective):
    """Concept distillation and concept alignment against an EMA (or frozen) teacher.

    The text vectors are fixed, so the head is the identity and the features themselves are trained. Temperatures belong
    to raw cosines, which differ between concepts by only 0.02 to 0.03: at K = 530, 0.01 (CLIP's logit scale 100) gives
    targets of 0.38 to 0.50 of the largest entropy, 0.02 already 0.80 to 0.90, DINO's 0.04 and 0.1 nearly flat ones of
    0.96 and 0.995.

    Args:
        space: its two matrices are kept as buffers, out of the checkpoint; its hash is in the checkpoint.
        distillation, alignment, anchor: weights λ. The anchor is 1 - cos(z_s, z_0), z_0 the features that the initial
            image model has of the same view (`BatchInfo.anchors`); 1 to 5 when features drift.
        sigma: weight of the alignment's second direction, description to category, in [0, 1].
        student_temperature, teacher_temperature: τ_s, τ_t.
        distillation_start, alignment_start, anchor_start, student_temperature_start, teacher_temperature_start: value
            at the start of training, from which it moves linearly; None: constant.
        weight_ramp, temperature_ramp: share of training that this takes, in (0, 1].
        prior: center, log_prior, sinkhorn, memax or none; see `build_prior`. One for each space.
        prior_momentum: of the running mean of center (None: 0.9) and log_prior (None: 0.99).
        prior_strength: share of the bias that is subtracted, in [0, 1]; below 1 when concepts are not equally frequent.
        prior_weight: λ_prior of memax.
        queue_size: rows of the teacher that sinkhorn remembers, more than K.
        log_drift: ask for anchors also without a weight, to log the cosine with them; one more forward pass for each view.
    """

    log_name = "concept"
    needs_teacher = True
    identity_head = True
    warm_start_clips = 1000
    default_projector = ()

    distillation: float
    alignment: float
    anchor: float
    student_temperature: float
    teacher_temperature: float
    category: Tensor
    description: Tensor

    def __init__(
        self,
        space: ConceptVectors,
        distillation: float = 1.0,
        alignment: float = 1.0,
        anchor: float = 0.0,
        sigma: float = 1.0,
        student_temperature: float = 0.01,
        teacher_temperature: float = 0.01,
        distillation_start: float | None = None,
        alignment_start: float | None = None,
        anchor_start: float | None = None,
        student_temperature_start: float | None = None,
        teacher_temperature_start: float | None = None,
        weight_ramp: float = 0.2,
        temperature_ramp: float = 0.2,
        prior: str = "center",
        prior_momentum: float | None = None,
        prior_strength: float = 1.0,
        prior_weight: float = 1.0,
        queue_size: int = 4096,
        log_drift: bool = False,
    ) -> None:
        super().__init__()
        weights = {
            "distillation": (distillation_start, distillation),
            "alignment": (alignment_start, alignment),
            "anchor": (anchor_start, anchor),
        }
        temperatures = {
            "student_temperature": (student_temperature_start, student_temperature),
            "teacher_temperature": (teacher_temperature_start, teacher_temperature),
        }
        self.ramps = ramps(weights, "weight_ramp", weight_ramp, positive=False)
        self.ramps |= ramps(temperatures, "temperature_ramp", temperature_ramp, positive=True)
        check_value("sigma", sigma, 0 <= sigma <= 1, "in [0, 1]")
        if prior_weight < 0 or (prior_weight != 1 and prior != "memax"):
            raise VidsslError(
                f"prior_weight={prior_weight}: must not be negative, and only memax has a weight"
            )
        self.sigma, self.prior_weight = sigma, prior_weight
        self.set_progress(0.0)
        self.needs_anchor = log_drift or max(self.ramps["anchor"][:2]) > 0
        self.space_hash = space.sha256
        for name, vectors in zip(SPACES, unit_matrices(space), strict=True):
            self.register_buffer(name, vectors, persistent=False)
        concepts = len(self.category)
        options = prior_momentum, prior_strength, queue_size
        self.priors = nn.ModuleDict({name: build_prior(prior, concepts, *options) for name in SPACES})
        self.monitors = nn.ModuleDict({name: ConceptMonitor(concepts) for name in SPACES})

    @torch.no_grad()
    def warm_start(self, features: Tensor) -> None:
        """Start the priors from a pass over the data instead of the first batch.

        Args:
            features: (N, D) the teacher's clip features of global views of N clips, a thousand or more, gathered from
                all processes.
        """
        for name, (logits,) in self._logits([features]).items():
            self._prior(name).warm_start(logits, self.teacher_temperature)

    def get_extra_state(self) -> Tensor:
        """The hash of the space as 32 bytes."""
        return hash_tensor(self.space_hash)

    def set_extra_state(self, state: Tensor) -> None:
        """Compares the hash; called before any statistic of the priors and monitors is overwritten.

        Raises:
            VidsslError: naming both hashes, if the state belongs to another space.
        """
        found = hash_of(state)
        if found != self.space_hash:
            raise VidsslError(
                f"concept: this state was trained with concept space {found[:12]}, here is {self.space_hash[:12]}; "
                "give the space that the run started with"
            )

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Clip features of all views of the student against those of the teacher's views.

        Logs: loss, its parts (`distillation_<space>`, `alignment_<from>_to_<to>`, `prior`, `anchor_cosine`), the
        temperatures, for each space what `ConceptMonitor` returns as `<quantity>_<space>`, `spaces_agree` (share of
        targets that prefer the same concept in both spaces) and `clips`, how many the monitors remember.
        """
        if not student or not teacher:
            raise VidsslError("concept: needs the features of a student and of a teacher")
        own, t = [view.projection for view in student], self.student_temperature
        seen = None if batch is None else batch.teacher_views
        logits, fixed = self._logits(own), self._logits([view.projection for view in teacher])
        spaces = {
            name: _Space(logits[name], fixed[name], self._prior(name)(fixed[name], self.teacher_temperature))
            for name in SPACES
        }
        c, d = spaces.values()
        distillation = [
            concept_distillation_loss(x.student, x.targets, t, teacher_views=seen) for x in (c, d)
        ]
        forth = concept_alignment_loss(d.student, c.targets, t)
        back = concept_alignment_loss(c.student, d.targets, t)
        prior = self._regulariser(spaces)
        loss = self.distillation * torch.stack(distillation).mean()
        loss = loss + self.alignment * (forth + self.sigma * back) / (1 + self.sigma)
        logs: dict[str, Tensor] = {}
        if prior is not None:
            loss = loss + self.prior_weight * prior
            logs["prior"] = prior
        anchors = () if batch is None else batch.anchors
        if anchors:
            cosine = anchor_cosine(own, anchors, seen)
            loss = loss + self.anchor * (1 - cosine)
            logs["anchor_cosine"] = cosine
        elif self.anchor > 0:
            raise VidsslError(
                f"concept: anchor={self.anchor:g} needs the features of the initial image model (batch.anchors)"
            )
        # A step that the trainer will skip leaves no trace.
        remember = self.training and bool(torch.isfinite(loss))
        logs |= self._monitor(spaces, distillation, seen, remember)
        logs |= {"alignment_category_to_description": forth, "alignment_description_to_category": back}
        same = [p.argmax(dim=1) == q.argmax(dim=1) for p, q in zip(c.targets, d.targets, strict=True)]
        logs["spaces_agree"] = torch.stack(same).to(forth.dtype).mean()
        monitor = cast(ConceptMonitor, self.monitors["category"])
        logs["clips"] = monitor.clips.clamp_max(monitor.window)
        if remember:
            for name, space in spaces.items():
                self._prior(name).update(space.teacher, self.teacher_temperature)
        logs |= {"loss": loss} | {
            key: loss.new_tensor(getattr(self, key)) for key in ("student_temperature", "teacher_temperature")
        }
        return ObjectiveOutput(loss, logs)

    def _logits(self, rows: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Per space and view (B, K) cosines, from one product with both matrices."""
        vectors = torch.cat([self.category, self.description])
        both = [concept_logits(view, vectors).chunk(2, dim=1) for view in rows]
        return {name: [x[i] for x in both] for i, name in enumerate(SPACES)}

    def _prior(self, name: str) -> Prior:
        return cast(Prior, self.priors[name])

    def _regulariser(self, spaces: Mapping[str, _Space]) -> Tensor | None:
        """What the priors ask of the student's predictions, the mean over spaces."""
        found = []
        for name, space in spaces.items():
            probs = [concept_probs(logits, self.student_temperature) for logits in space.student]
            asked = self._prior(name).regulariser(probs)
            if asked is not None:
                found.append(asked)
        return torch.stack(found).mean() if found else None

    def _monitor(
        self,
        spaces: Mapping[str, _Space],
        losses: Sequence[Tensor],
        seen: Sequence[int] | None,
        remember: bool,
    ) -> dict[str, Tensor]:
        logs: dict[str, Tensor] = {}
        for (name, x), loss in zip(spaces.items(), losses, strict=True):
            pairs = cross_view_pairs(len(x.student), len(x.targets), seen)
            found = self.monitors[name](x.student, x.targets, loss, pairs, remember)
            logs[f"distillation_{name}"] = loss
            logs |= {f"{key}_{name}": value for key, value in found.items()}
        return logs
