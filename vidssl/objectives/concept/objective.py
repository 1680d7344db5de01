"""Self-distillation in a concept space: a video should be named and described as another view of it is.

    loss = λ_CD · distillation + λ_CA · alignment + λ_reg · anchor + λ_prior · prior
    distillation = mean_a mean_uv H(P_t^a(u), P_s^a(v))                       a = category, description;  u ≠ v
    alignment = mean_uv [H(P_t^c(u), P_s^d(v)) + σ H(P_t^d(u), P_s^c(v))] / (1 + σ)

Spaces of attributes (motion, objects, …) may stand beside the two: each is distilled as they are, and either is aligned with
each through the incidence of actions and attributes (`incidence.py`); then `alignment` is the mean over these pairs.

Re-implemented from the published description of LSS (Ranasinghe & Ryoo 2023, arXiv 2307.10922), whose equations and
hyper-parameters could not be consulted: formulas follow DINO (arXiv 2104.14294), hyper-parameters are ours.

    >>> objective = ConceptObjective(space)            # a vidssl.concepts.space.ConceptSpace
    >>> loss = objective([z1, z2], [t1, t2]).loss      # (B, D) clip features of two views: student's, teacher's
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

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
from vidssl.objectives.concept.incidence import attribute_alignment_losses, attribute_shares
from vidssl.objectives.concept.losses import (
    anchor_cosine,
    concept_alignment_loss,
    concept_distillation_loss,
    concept_logits,
    concept_probs,
)
from vidssl.objectives.concept.monitors import ConceptMonitor, spaces_agree
from vidssl.objectives.concept.priors import Prior, build_prior
from vidssl.objectives.concept.spaces import SPACES, SpaceViews, aligned_pairs, read_spaces
from vidssl.objectives.concept.vectors import (
    ConceptVectors,
    attribute_matrices,
    hash_of,
    hash_tensor,
    unit_matrices,
)
from vidssl.objectives.ramp import ramps


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
        spaces: ``category``, ``description`` and kinds of attributes; as a list, or each with options, see `read_spaces`.
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
        spaces: Any = SPACES,
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
        self.spaces = read_spaces(spaces)
        self.pairs = aligned_pairs(self.spaces)
        self.priors, self.monitors = nn.ModuleDict(), nn.ModuleDict()
        rows = dict(zip(SPACES, unit_matrices(space), strict=True))
        for name, own in self.spaces.items():
            frequency = None
            if name not in rows:
                rows[name], incidence = attribute_matrices(space, name)
                shares = attribute_shares(incidence)
                frequency = shares.sum(dim=0) / shares.sum()
                self.register_buffer(f"shares_{name}", shares, persistent=False)
            self.register_buffer(name, rows[name], persistent=False)
            count = len(rows[name])
            self.priors[name] = build_prior(
                own.prior or prior,
                count,
                prior_momentum if own.prior_momentum is None else own.prior_momentum,
                prior_strength if own.prior_strength is None else own.prior_strength,
                queue_size,
                frequency,
            )
            self.monitors[name] = ConceptMonitor(count)

    @torch.no_grad()
    def warm_start(self, features: Tensor) -> None:
        """Start the priors from a pass over the data instead of the first batch.

        Args:
            features: (N, D) the teacher's clip features of global views of N clips, a thousand or more, gathered from
                all processes.
        """
        for name, (logits,) in self._logits([features]).items():
            self._prior(name).warm_start(logits, self._temperature(name, "teacher_temperature"))

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
        objective's temperatures, for each space what `ConceptMonitor` returns as `<quantity>_<space>`, `spaces_agree` (share
        of targets that prefer the same concept as a name and as a description), `spaces_agree_<kind>` (share of targets
        whose preferred action has the preferred attribute) and `clips`, how many the monitors remember.
        """
        if not student or not teacher:
            raise VidsslError("concept: needs the features of a student and of a teacher")
        own = [view.projection for view in student]
        seen = None if batch is None else batch.teacher_views
        logits, fixed = self._logits(own), self._logits([view.projection for view in teacher])
        spaces = {}
        for name in self.spaces:
            t_s, t_t = (self._temperature(name, f"{who}_temperature") for who in ("student", "teacher"))
            targets = self._prior(name)(fixed[name], t_t)
            spaces[name] = SpaceViews(logits[name], fixed[name], targets, t_s, t_t)
        distillation = [
            concept_distillation_loss(x.student, x.targets, x.student_temperature, teacher_views=seen)
            for x in spaces.values()
        ]
        weights = [options.weight for options in self.spaces.values()]
        parts = [weight * part for weight, part in zip(weights, distillation, strict=True)]
        loss = self.distillation * torch.stack(parts).sum() / sum(weights)
        logs: dict[str, Tensor] = {}
        for (a, b), weight in self.pairs.items():
            forth, back = self._alignment(spaces, a, b)
            loss = loss + self.alignment * weight * (forth + self.sigma * back) / (1 + self.sigma)
            logs |= {f"alignment_{a}_to_{b}": forth, f"alignment_{b}_to_{a}": back}
        prior = self._regulariser(spaces)
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
        shares = {name: getattr(self, f"shares_{name}") for name in spaces if name not in SPACES}
        logs |= spaces_agree({name: x.targets for name, x in spaces.items()}, shares)
        monitor = cast(ConceptMonitor, next(iter(self.monitors.values())))
        logs["clips"] = monitor.clips.clamp_max(monitor.window)
        if remember:
            for name, space in spaces.items():
                self._prior(name).update(space.teacher, space.teacher_temperature)
        logs |= {"loss": loss} | {
            key: loss.new_tensor(getattr(self, key)) for key in ("student_temperature", "teacher_temperature")
        }
        return ObjectiveOutput(loss, logs)

    def _logits(self, rows: Sequence[Tensor]) -> dict[str, list[Tensor]]:
        """Per space and view (B, K) cosines, from one product with all matrices."""
        matrices = [getattr(self, name) for name in self.spaces]
        sizes = [len(matrix) for matrix in matrices]
        vectors = torch.cat(matrices)
        split = [concept_logits(view, vectors).split(sizes, dim=1) for view in rows]
        return {name: [x[i] for x in split] for i, name in enumerate(self.spaces)}

    def _temperature(self, name: str, which: str) -> float:
        own = getattr(self.spaces[name], which)
        return float(getattr(self, which) if own is None else own)

    def _alignment(self, spaces: Mapping[str, SpaceViews], a: str, b: str) -> tuple[Tensor, Tensor]:
        """What a teaches b, and b a."""
        x, y = spaces[a], spaces[b]
        if b in SPACES:
            forth = concept_alignment_loss(y.student, x.targets, y.student_temperature)
            return forth, concept_alignment_loss(x.student, y.targets, x.student_temperature)
        return attribute_alignment_losses(
            x.student,
            x.targets,
            y.student,
            y.targets,
            getattr(self, f"shares_{b}"),
            x.student_temperature,
            y.student_temperature,
        )

    def _prior(self, name: str) -> Prior:
        return cast(Prior, self.priors[name])

    def _regulariser(self, spaces: Mapping[str, SpaceViews]) -> Tensor | None:
        """What the priors ask of the student's predictions, the mean over spaces."""
        found = []
        for name, space in spaces.items():
            probs = [concept_probs(logits, space.student_temperature) for logits in space.student]
            asked = self._prior(name).regulariser(probs)
            if asked is not None:
                found.append(asked)
        return torch.stack(found).mean() if found else None

    def _monitor(
        self,
        spaces: Mapping[str, SpaceViews],
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
