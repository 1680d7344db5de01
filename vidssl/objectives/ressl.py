"""ReSSL: a view should relate to other videos as a weakly augmented view of the same video does.

Zheng et al. 2021, "ReSSL: Relational Self-Supervised Learning with Weak Augmentation", arXiv 2107.09282.

    >>> objective = ReSSL(dim=128, queue_size=4096)
    >>> loss = objective([q], [k]).loss           # q, k (B, 128): student and teacher rows
"""

from __future__ import annotations

import torch
from torch import Tensor

from vidssl.distributed import all_sum
from vidssl.errors import VidsslError, check_value
from vidssl.objectives.base import (
    BatchInfo,
    Objective,
    ObjectiveOutput,
    Views,
    cross_view_pairs,
    different_videos,
    l2_normalise,
    own_rows,
    teacher_rows,
    video_ids,
)
from vidssl.objectives.queue import filled, overwrite_oldest


def ressl_loss(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    mask: Tensor | None = None,
) -> Tensor:
    """-mean_i sum_j softmax_j(k_i·m_j / t_t) log softmax_j(q_i·m_j / t_s) over the rows m_j of the queue.

    Args:
        q: (B, d) student rows; k: (B, d) teacher rows; queue: (K, d). All l2-normalised; k and queue get no gradient.
        student_temperature, teacher_temperature: t_s > t_t, so that the target is the sharper one.
        mask: (B, K) or (K,) bool, the entries that take part. A row without any contributes nothing.

    Returns:
        Scalar, nats; the cross-entropy, which differs from the divergence by the entropy of the target.

    Raises:
        VidsslError: if the shapes do not fit, or a temperature is not positive.
    """
    if q.ndim != 2 or q.shape != k.shape or queue.ndim != 2 or queue.shape[1] != q.shape[1]:
        shapes = f"{tuple(q.shape)}, {tuple(k.shape)}, {tuple(queue.shape)}"
        raise VidsslError(f"ressl: needs q (B, d), k (B, d) and queue (K, d), got {shapes}")
    if min(student_temperature, teacher_temperature) <= 0:
        raise VidsslError(
            f"ressl: temperatures {student_temperature}, {teacher_temperature}: must be positive"
        )
    total, count = relation_sums(q, k, queue, student_temperature, teacher_temperature, mask)
    return total / count.clamp_min(1)


def relation_sums(
    q: Tensor,
    k: Tensor,
    queue: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """The sum over rows of which `ressl_loss` is the mean, and how many rows are in it; arguments as there."""
    queue = queue.detach()
    student = q @ queue.T / student_temperature
    teacher = k.detach() @ queue.T / teacher_temperature
    if mask is None:
        total = -(teacher.softmax(dim=1) * student.log_softmax(dim=1)).sum(dim=1).sum()
        return total, total.new_tensor(len(q))
    mask = mask.expand_as(student)
    counts = mask.any(dim=1)
    # A row with nothing to compare with is computed with everything (no NaN) and left out of the mean.
    mask = mask | ~counts[:, None]
    target = teacher.masked_fill(~mask, -torch.inf).softmax(dim=1)
    log_student = student.masked_fill(~mask, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0)
    rows = -(target * log_student).sum(dim=1)
    return (rows * counts).sum(), counts.sum().to(rows.dtype)


class ReSSL(Objective):
    """ReSSL with a queue of past teacher rows that survives a checkpoint.

    Every step: logits against the queue as it is, then the teacher's rows overwrite its oldest entries. Student views
    are compared with teacher views that show something else of the same video; the loss is the mean over those pairs. Each
    process relates its own rows only, and the means are those over all.

    Args:
        dim: d.
        queue_size: K, any number: it need not be a multiple of the batch.
        student_temperature, teacher_temperature: see `ressl_loss`.
        use_keys: also relate to the teacher's rows of this batch, except those of the own video.
        ignore_unfilled: leave out queue entries that are still the random rows of the start.
        seed: of those random rows; give it the same value on every process.
    """

    log_name = "ressl"
    needs_teacher = True
    default_projector = (1024, 256)
    default_head = {"norm": "none", "last_bias": True}  # noqa: RUF012

    def __init__(
        self,
        dim: int,
        queue_size: int = 4096,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        use_keys: bool = False,
        ignore_unfilled: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_value("queue_size", queue_size, queue_size >= 1, "at least 1")
        self.student_temperature, self.teacher_temperature = student_temperature, teacher_temperature
        self.use_keys, self.ignore_unfilled = use_keys, ignore_unfilled
        rows = torch.randn(queue_size, dim, generator=torch.Generator().manual_seed(seed))
        self.queue: Tensor
        self.written: Tensor
        self.register_buffer("queue", l2_normalise(rows))
        # Rows ever written: modulo K the place of the next one, capped at K the number of filled places.
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def pointer(self) -> Tensor:
        """Where the next row goes, in [0, K)."""
        return self.written % len(self.queue)

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Student predictions (or projections) against the teacher's projections. Logs: loss."""
        keys = [l2_normalise(view) for view in teacher_rows(teacher, "ressl")]
        q = [l2_normalise(view.predicted) for view in student]
        # A copy: the queue is overwritten before the backward pass reads it.
        queue = self.queue.to(q[0].dtype, copy=True)
        own = own_rows(batch)
        banks = [self._bank(queue, k, batch, own) for k in keys]
        temperatures = self.student_temperature, self.teacher_temperature
        pairs = cross_view_pairs(len(q), len(keys), None if batch is None else batch.teacher_views)
        sums = [
            relation_sums(q[s][own], keys[t][own], banks[t][0], *temperatures, banks[t][1]) for s, t in pairs
        ]
        totals, counts = all_sum(torch.stack([torch.stack(pair) for pair in sums])).unbind(dim=1)
        loss = (totals / counts.clamp_min(1)).mean()
        if self.training:
            self.enqueue(torch.cat(keys))
        return ObjectiveOutput(loss, {"loss": loss})

    def _bank(
        self, queue: Tensor, keys: Tensor, batch: BatchInfo | None, own: slice
    ) -> tuple[Tensor, Tensor | None]:
        """What rows are related to, and which of it counts for which of the own rows."""
        if not (self.use_keys or self.ignore_unfilled):
            return queue, None
        known = torch.ones_like(queue[:, 0], dtype=torch.bool)
        if self.ignore_unfilled:
            known = filled(queue, self.written)
        if not self.use_keys:
            return queue, known
        others = different_videos(video_ids(batch, keys))[own]
        return torch.cat([queue, keys]), torch.cat([known.expand(len(others), -1), others], dim=1)

    def enqueue(self, keys: Tensor) -> None:
        """Write (n, d) rows over the oldest; of more than K rows only the last K remain."""
        overwrite_oldest(self.queue, self.written, keys)
