"""What every objective shares: its interface, and what it is told about the batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any, ClassVar, NamedTuple

import torch
from einops import rearrange
from torch import Tensor, nn

from vidssl.distributed import is_distributed, rank
from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.precision import full_precision, widen
from vidssl.objectives.ramp import Ramp

# A head's output, or plain rows (B, d) when an objective is used on its own in somebody's loop.
View = HeadOutput | Tensor
Views = Sequence[HeadOutput]


class ObjectiveOutput(NamedTuple):
    """A loss to differentiate, and detached scalars named ``objective/quantity``."""

    loss: Tensor
    logs: dict[str, Tensor]


class BatchInfo(NamedTuple):
    """What an objective may know of the batch beside the rows.

    Attributes:
        video_id: (B,) int64; rows of the same video carry the same number.
        times: per view (B, T_v): seconds at which the view's frames were shown.
        teacher_views: for each teacher output the index of its view; the first views when None.
        rows_per_process: how many of the B rows came from each process, in order; None on one process.
        anchors: per view (B, D): what the encoder made of it before any training; empty unless an objective needs them.
        anchor_frames: the same of single frames, (B, T, D); empty unless an objective needs them.
    """

    video_id: Tensor
    times: Sequence[Tensor] = ()
    teacher_views: Sequence[int] | None = None
    rows_per_process: Sequence[int] | None = None
    anchors: Sequence[Tensor] = ()
    anchor_frames: Sequence[Tensor] = ()


class Objective(nn.Module, ABC):
    """One loss on head outputs whose rows are those of the whole global batch.

    Parameters owned by an objective see the full global gradient on every process, because every process computes
    the same loss from the same rows: they need no averaging, and averaging them changes nothing.
    """

    # What its logs are named after.
    log_name: ClassVar[str]
    needs_teacher: bool = False
    needs_predictor: bool = False
    needs_frames: bool = False
    needs_anchor: bool = False
    needs_anchor_frames: ClassVar[bool] = False
    # Reads the encoder's own features, in a `space` of concepts: there is no head.
    identity_head: ClassVar[bool] = False
    # Clips whose features (the teacher's) `warm_start` wants to see before the first step.
    warm_start_clips: ClassVar[int] = 0
    # Predicts later frames, which the features of earlier ones must not have seen.
    predicts_frames: ClassVar[bool] = False
    default_projector: ClassVar[Sequence[int]] = (512, 128)
    # Further options of the head, such as its norm.
    default_head: ClassVar[Mapping[str, Any]] = {}
    # False on a step whose logs nobody reads: what is costly and only for them may then be left out.
    keeps_logs: bool = True
    # Attributes that `set_progress` moves.
    ramps: Mapping[str, Ramp] = {}

    @classmethod
    def predictor_sizes(cls, dim: int) -> Sequence[int]:
        """Layers of the predictor, where it is not chosen, on a projection of size `dim`."""
        return (512, dim)

    def forward(
        self,
        student: Sequence[View],
        teacher: Sequence[View] | None = None,
        batch: BatchInfo | None = None,
    ) -> ObjectiveOutput:
        """The loss and its logs, in float32 or wider whatever the autocast dtype.

        Args:
            student: one output per view, row i of each from video i of the global batch.
            teacher: the same for the views that the teacher sees; never receives a gradient.
            batch: identities and times; without it every row is its own video.

        Raises:
            VidsslError: for outputs that are missing or do not fit.
        """
        own, targets = _outputs(student), [_fixed(view) for view in _outputs(teacher or ())]
        with full_precision(*(view.projection for view in [*own, *targets])):
            loss, logs = self.evaluate(widen(own), widen(targets), widen(batch))
        return ObjectiveOutput(
            loss, {f"{self.log_name}/{key}": value.detach() for key, value in logs.items()}
        )

    @abstractmethod
    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """What `forward` returns, of rows in float32 or wider and without autocast; logs are named by quantity alone.

        Args:
            student: as given to `forward`.
            teacher: without gradient; empty where there is none.
            batch: as given to `forward`.
        """

    def select_student(self, view: HeadOutput) -> HeadOutput:
        """Only what the objective reads of a student's output, as its projection: this travels between processes."""
        if self.needs_frames:
            return HeadOutput(frame_rows([view], self.needs_predictor)[0], None, None)
        return HeadOutput(view.predicted if self.needs_predictor else view.projection, None, None)

    def select_teacher(self, view: HeadOutput) -> HeadOutput:
        """The same of a teacher's output, without gradient."""
        rows = frame_rows([view], predicted=False)[0] if self.needs_frames else view.projection
        return HeadOutput(rows.detach(), None, None)

    def set_progress(self, fraction: float) -> None:
        """Told before every step how much of training is done, in [0, 1]; moves the `ramps`."""
        for name, ramp in self.ramps.items():
            setattr(self, name, ramp.at(fraction))

    def warm_start(self, features: Tensor) -> None:
        """Told once, before the first step: (N, D) features of `warm_start_clips` clips, all of the batch's processes."""

    def after_step(self) -> None:
        """Told after every step of the optimiser; constraints on parameters are restored here."""

    def param_groups(self) -> list[dict[str, Any]]:
        """Optimiser groups of the objective's own parameters; one with its own `lr` follows no schedule, and `lr_scale`
        is a factor on the schedule."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters}] if parameters else []


class DrawingObjective(Objective):
    """An objective with draws of its own, which a resumed run goes on with.

    Args:
        seed: in [0, 2^63); give it the same value on every process.

    Raises:
        VidsslError: for another seed.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()
        if not 0 <= seed < 2**63:
            raise VidsslError(f"objective: seed={seed}: must be at least 0 and less than 2^63")
        self.generator = torch.Generator().manual_seed(seed)

    def get_extra_state(self) -> Tensor:
        """State of the draws, so that a resumed run repeats them."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu().to(torch.uint8))


def teacher_rows(views: Views, name: str) -> list[Tensor]:
    """(B, d) per view of the teacher.

    Raises:
        VidsslError: if there is none.
    """
    if not views:
        raise VidsslError(f"{name}: needs the rows of a teacher")
    return [view.projection for view in views]


def frame_rows(views: Views, predicted: bool) -> list[Tensor]:
    """(B, T_v, d) per view: the prediction of every frame where wanted and there is one, else its projection.

    Raises:
        VidsslError: if a head gives no per-frame rows.
    """
    rows = []
    for view in views:
        found = [view.prediction if predicted else None, view.frames, view.projection]
        per_frame = [x for x in found if x is not None and x.ndim == 3]
        if not per_frame:
            raise VidsslError(
                "this objective reads per-frame rows (B, T, d): build its head with frames=True"
            )
        rows.append(per_frame[0])
    return rows


def frame_times(times: Tensor, frames: int) -> Tensor:
    """(B, frames) seconds of the feature frames, each of which covers as many video frames as the others.

    Args:
        times: (B, T) seconds of the video frames; T is a multiple of `frames` (tubelets of T/frames frames).

    Raises:
        VidsslError: if T is no multiple of `frames`.
    """
    if times.shape[1] % frames:
        raise VidsslError(f"{frames} feature frames do not divide the {times.shape[1]} frames of the view")
    return rearrange(times, "b (f s) -> b f s", f=frames).mean(dim=2)


def l2_normalise(x: Tensor) -> Tensor:
    """x / sqrt(max(sum x², 1e-12)) over the last axis; a zero row stays zero, with a finite gradient."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / norm.clamp_min(1e-6)


def view_pairs(views: Views, name: str) -> list[tuple[Tensor, Tensor]]:
    """Projections (B, d) of all unordered pairs of two different views.

    Raises:
        VidsslError: for fewer than two views or unequal shapes.
    """
    rows = [view.projection for view in views]
    check_views(rows, name)
    return list(combinations(rows, 2))


def check_views(views: Sequence[Tensor], name: str) -> None:
    """At least two views, all (B, d) of one shape."""
    if len(views) < 2:
        raise VidsslError(f"{name}: needs at least 2 views of every video, got {len(views)}")
    shapes = sorted({tuple(view.shape) for view in views})
    if len(shapes) > 1 or len(shapes[0]) != 2:
        raise VidsslError(f"{name}: all views must be (B, d) of one shape, got {', '.join(map(str, shapes))}")


def cross_view_pairs(
    student: int, teacher: int, teacher_views: Sequence[int] | None
) -> list[tuple[int, int]]:
    """(student view, teacher view) pairs that show different views of a video; all pairs if there is no other."""
    seen = range(teacher) if teacher_views is None else teacher_views
    pairs = list(product(range(student), range(teacher)))
    return [(s, t) for s, t in pairs if s != seen[t]] or pairs


def video_ids(batch: BatchInfo | None, rows: Tensor) -> Tensor:
    """(B,) of rows (B, …), on their device; all different without a batch."""
    if batch is None:
        return torch.arange(len(rows), device=rows.device)
    return batch.video_id.to(rows.device)


def own_rows(batch: BatchInfo | None) -> slice:
    """Which of the global rows are this process's own: all of them where nothing was gathered.

    Where a loss is a mean over rows, each process may compute the sum over its own and `all_sum` the sums: value and
    gradient are those of all rows on every process.
    """
    counts = None if batch is None else batch.rows_per_process
    if counts is None or not is_distributed():
        return slice(None)
    start = sum(counts[: rank()])
    return slice(start, start + counts[rank()])


def different_videos(video_id: Tensor) -> Tensor:
    """(B, B) bool: rows i and j belong to different videos."""
    return video_id[:, None] != video_id[None, :]


def _outputs(views: Sequence[View]) -> list[HeadOutput]:
    """Plain rows count as projections."""
    return [HeadOutput(view, None, None) if isinstance(view, Tensor) else view for view in views]


def _fixed(view: HeadOutput) -> HeadOutput:
    """What is read of a teacher, without gradient."""
    frames = None if view.frames is None else view.frames.detach()
    return HeadOutput(view.projection.detach(), None, frames)
