"""Several objectives at once, and the one place where their rows are gathered from all processes.

>>> objective, heads = build_objectives({"hsic": {"weight": 1}}, embed_dim=512)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from vidssl.distributed import gather_rows, row_counts
from vidssl.errors import NUMBER, SWITCH, WHOLE, WORD, VidsslError, check_choice, check_kind
from vidssl.models.heads import (
    HEAD_OPTIONS,
    FrameHead,
    HeadOutput,
    IdentityHead,
    ProjectionHead,
)
from vidssl.objectives.base import BatchInfo, Objective, ObjectiveOutput
from vidssl.objectives.baselines import BYOL, DINO, BarlowTwins, InfoNCE, SimSiam, VICReg
from vidssl.objectives.concept.objective import ConceptObjective
from vidssl.objectives.concept.phases import ConceptPhases
from vidssl.objectives.concept.spaces import SPACES, attribute_kinds
from vidssl.objectives.concept.vectors import ConceptVectors
from vidssl.objectives.hsic.objective import SSLHSIC
from vidssl.objectives.ldm.objective import LDM
from vidssl.objectives.ressl import ReSSL
from vidssl.objectives.sigreg import SIGReg
from vidssl.objectives.spectral import SpectralContrastive, TemporalSpectral
from vidssl.objectives.temporal_infonce import TemporalInfoNCE

OBJECTIVES: dict[str, type[Objective]] = {
    "hsic": SSLHSIC,
    "spectral": SpectralContrastive,
    "temporal_spectral": TemporalSpectral,
    "ressl": ReSSL,
    "sigreg": SIGReg,
    "ldm": LDM,
    "concept": ConceptObjective,
    "phases": ConceptPhases,
    "infonce": InfoNCE,
    "temporal_infonce": TemporalInfoNCE,
    "byol": BYOL,
    "simsiam": SimSiam,
    "vicreg": VICReg,
    "barlow": BarlowTwins,
    "dino": DINO,
}
SPACE_OPTIONS = ("vocabulary", "templates", "whiten", "merge_threshold", "attribute_min_count")


class Composite(nn.Module):
    """Weighted sum of objectives.

    Args:
        objectives: by name; the name prefixes the objective's logs.
        weights: of each, 1 where absent.
    """

    def __init__(
        self, objectives: Mapping[str, Objective], weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        if not objectives:
            raise VidsslError("objective: at least one is needed")
        self.objectives = nn.ModuleDict(objectives)
        self.weights = {name: float((weights or {}).get(name, 1.0)) for name in objectives}

    def items(self) -> list[tuple[str, Objective]]:
        """(name, objective) pairs."""
        return [(name, cast(Objective, module)) for name, module in self.objectives.items()]

    @property
    def needs_teacher(self) -> bool:
        """Whether any objective reads a teacher's outputs."""
        return any(objective.needs_teacher for _, objective in self.items())

    @property
    def needs_anchor(self) -> bool:
        """Whether any objective reads what the encoder was before training."""
        return any(objective.needs_anchor for _, objective in self.items()) or self.needs_anchor_frames

    @property
    def needs_anchor_frames(self) -> bool:
        """Whether it is single frames that one of them reads of that."""
        return any(objective.needs_anchor_frames for _, objective in self.items())

    def set_progress(self, fraction: float) -> None:
        """How much of training is done, in [0, 1]."""
        for _, objective in self.items():
            objective.set_progress(fraction)

    def keep_logs(self, wanted: bool) -> None:
        """Whether the logs of the next steps are read."""
        for _, objective in self.items():
            objective.keeps_logs = wanted

    def after_step(self) -> None:
        """A step of the optimiser was made."""
        for _, objective in self.items():
            objective.after_step()

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups of all objectives' own parameters."""
        return [group for _, objective in self.items() for group in objective.param_groups()]

    def forward(
        self,
        student: Mapping[str, Sequence[HeadOutput]],
        teacher: Mapping[str, Sequence[HeadOutput]] | None,
        batch: BatchInfo,
    ) -> ObjectiveOutput:
        """
        Args:
            student: for each objective its head's outputs, one per view, of the rows of THIS process.
            teacher: the same for the teacher's views; None if no objective needs it.
            batch: of the rows of this process.

        Returns:
            The same loss on every process, that of the global batch. Averaging the parameter gradients over the
            processes, as DistributedDataParallel does, gives the gradient of one process with all the rows.

        Raises:
            VidsslError: if an objective's outputs are missing.
        """
        own, targets = self._select(student, teacher)
        counts = row_counts(batch.video_id)
        own, targets = _gather_outputs(own, counts), _gather_outputs(targets, counts)
        batch = _gather_batch(batch, counts)
        total: Tensor | None = None
        logs: dict[str, Tensor] = {}
        for name, objective in self.items():
            output: ObjectiveOutput = objective(own[name], targets.get(name), batch)
            weighted = self.weights[name] * output.loss
            total = weighted if total is None else total + weighted
            logs |= {f"{name}/{key.partition('/')[2]}": value for key, value in output.logs.items()}
        assert total is not None
        return ObjectiveOutput(total, {"loss": total.detach(), **logs})

    def _select(
        self,
        student: Mapping[str, Sequence[HeadOutput]],
        teacher: Mapping[str, Sequence[HeadOutput]] | None,
    ) -> tuple[dict[str, list[HeadOutput]], dict[str, list[HeadOutput]]]:
        """What the objectives read; the teacher's without gradient."""
        own, targets = {}, {}
        for name, objective in self.items():
            if name not in student:
                raise VidsslError(f"objective {name!r}: no head of this name (there is {', '.join(student)})")
            own[name] = [objective.select_student(view) for view in student[name]]
            if objective.needs_teacher:
                if teacher is None or name not in teacher:
                    raise VidsslError(f"objective {name!r}: needs the outputs of a teacher")
                targets[name] = [objective.select_teacher(view) for view in teacher[name]]
        return own, targets


def build_objectives(
    spec: Mapping[str, Mapping[str, Any] | None],
    embed_dim: int,
    concept_space: Callable[..., ConceptVectors] | None = None,
) -> tuple[Composite, dict[str, nn.Module]]:
    """Objectives and their heads from plain data.

    Args:
        spec: name -> options. Options are those of the objective's class, of its head (projector, predictor: layer
            sizes; norm, last_norm, last_bias, prototypes; pool_frames for those on frames), `weight`, and `objective`:
            which one this is, where the name is a free one (``{"frames": {"objective": "hsic", "frames": True}}``).
        embed_dim: D of the encoder.
        concept_space: makes the space of an objective in concepts from its options vocabulary, templates, whiten,
            merge_threshold and attribute_min_count, and the kinds of `attributes` that it works in.

    Returns:
        The weighted sum, and a head for each name (`ClipFeatures` to `HeadOutput`).

    Raises:
        VidsslError: for an unknown objective or option, with the nearest known name, or an option that is refused.
    """
    objectives, weights, heads = {}, {}, {}
    for name, given in spec.items():
        options = dict(given or {})
        kind = options.pop("objective", name)
        check_choice("objective", kind, OBJECTIVES, "{name} {value!r}: unknown{guess} (allowed: {allowed})")
        weight = options.pop("weight", 1.0)
        _check_type(f"objective.{name}.weight", weight, 1.0)
        weights[name] = float(weight)
        objectives[name], heads[name] = _build(name, OBJECTIVES[kind], options, embed_dim, concept_space)
    return Composite(objectives, weights), heads


def _build(
    name: str,
    kind: type[Objective],
    options: dict[str, Any],
    embed_dim: int,
    concept_space: Callable[..., ConceptVectors] | None,
) -> tuple[Objective, nn.Module]:
    parameters = inspect.signature(kind).parameters
    around = SPACE_OPTIONS if kind.identity_head else tuple(HEAD_OPTIONS)
    accepted = [key for key in parameters if key not in ("dim", "space")]
    allowed = ["weight", "objective", *around, *accepted]
    for key, value in options.items():
        check_choice(
            f"objective.{name}.{key}", key, allowed, "{name}: unknown option{guess} (allowed: {allowed})"
        )
        if key in parameters and key != "spaces":  # which says itself what it takes
            _check_type(f"objective.{name}.{key}", value, parameters[key].default)
    chosen = {key: options.pop(key) for key in around if key in options}
    for key, value in chosen.items():
        if key in HEAD_OPTIONS:
            check_kind(f"objective.{name}.{key}", value, HEAD_OPTIONS[key])
    head = {"projector": kind.default_projector, **kind.default_head, **chosen}
    if not (head["projector"] or kind.identity_head):
        raise VidsslError(f"objective.{name}.projector: needs at least one layer size")
    try:
        if kind.identity_head:
            if concept_space is None:
                raise VidsslError("needs an encoder with a text tower, to encode its concepts (a CLIP model)")
            if kinds := attribute_kinds(options.get("spaces", SPACES)):
                chosen["attributes"] = kinds
            return kind(**options, space=concept_space(**chosen)), IdentityHead()
        if "dim" in parameters:
            options["dim"] = head.get("prototypes") or head["projector"][-1]
        objective = kind(**options)
        if not objective.needs_predictor:
            head.setdefault("predictor", None)
        head.setdefault("predictor", kind.predictor_sizes(head["projector"][-1]))
        if objective.needs_frames:
            if head.pop("prototypes", None) is not None:
                raise VidsslError("prototypes: is for objectives that read clips")
            return objective, FrameHead(embed_dim, **head)
        if "pool_frames" in head:
            raise VidsslError("pool_frames: is for objectives that read frames")
        return objective, ProjectionHead(embed_dim, **head)
    except VidsslError as error:
        raise VidsslError(f"objective.{name}: {error}") from error


def _check_type(key: str, value: Any, default: Any) -> None:
    """A value of the kind of its default: a switch, a number, a word; None where the default is None."""
    if default is not None or value is not None:
        kinds = {bool: SWITCH, str: WORD, int: WHOLE}
        check_kind(key, value, kinds.get(type(default), NUMBER))


def _gather_outputs(
    outputs: dict[str, list[HeadOutput]], counts: Sequence[int]
) -> dict[str, list[HeadOutput]]:
    """All tensors of all views side by side in one collective, then apart again."""
    if len(counts) == 1:
        return outputs
    tensors = [x for views in outputs.values() for view in views for x in view if x is not None]
    if not tensors:
        return outputs
    rows = gather_rows(torch.cat([x.flatten(1) for x in tensors], dim=1), counts)
    pieces = iter(rows.split([x.shape[1:].numel() for x in tensors], dim=1))

    def piece(x: Tensor | None) -> Tensor | None:
        return None if x is None else next(pieces).reshape(-1, *x.shape[1:])

    return {
        name: [HeadOutput(*(piece(x) for x in view)) for view in views]  # type: ignore[arg-type]
        for name, views in outputs.items()
    }


def _gather_batch(batch: BatchInfo, counts: Sequence[int]) -> BatchInfo:
    if len(counts) == 1:
        return batch
    return batch._replace(
        video_id=gather_rows(batch.video_id, counts),
        times=[gather_rows(times, counts) for times in batch.times],
        anchors=[gather_rows(rows, counts) for rows in batch.anchors],
        anchor_frames=[gather_rows(rows, counts) for rows in batch.anchor_frames],
        rows_per_process=tuple(counts),
    )
