"""The rows of SSL-HSIC: which outputs of student and teacher enter, and what each of them shows."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from vidssl.objectives.base import BatchInfo, Views, check_views, frame_rows, frame_times, l2_normalise


class Rows(NamedTuple):
    """Attributes:
    rows: R tensors (B, d), l2-normalised, the student's first.
    times: R tensors (B,), the seconds that the rows show; empty where unknown.
    views: R numbers of the view of the clip that the rows show.
    """

    rows: list[Tensor]
    times: list[Tensor]
    views: list[int]


def collect_rows(student: Views, teacher: Views, batch: BatchInfo | None, frames: bool) -> Rows:
    """The student's predictions (projections without a predictor) and the teacher's projections, of clips or frames.

    Args:
        student, teacher: outputs of their views; teacher is empty where there is none.
        batch: says when the views were and which of them the teacher saw.
        frames: every frame is a row, instead of every view.

    Raises:
        VidsslError: for fewer than two rows of a video, or unequal shapes.
    """
    if frames:
        own, targets = frame_rows(student, predicted=True), frame_rows(teacher, predicted=False)
    else:
        own, targets = [view.predicted for view in student], [view.projection for view in teacher]
    seen = range(len(targets)) if batch is None or batch.teacher_views is None else batch.teacher_views
    views = [*range(len(own)), *seen[: len(targets)]]
    outputs = own + targets
    times = [batch.times[view] for view in views] if batch is not None and batch.times else []
    if frames:
        if times:
            spread = [frame_times(t, r.shape[1]) for t, r in zip(times, outputs, strict=True)]
            times = [moment for t in spread for moment in t.unbind(dim=1)]
        views = [view for view, output in zip(views, outputs, strict=True) for _ in range(output.shape[1])]
        outputs = [frame for output in outputs for frame in output.unbind(dim=1)]
    else:
        times = [t.mean(dim=1) for t in times]
    rows = [l2_normalise(row) for row in outputs]
    check_views(rows, "hsic")
    return Rows(rows, times, views)
