"""The usual image objectives through lightly, behind the same interface, so that comparisons share everything else.

lightly is optional (``pip install "vidssl[lightly]"``) and imported when one of these is built. Its losses take two
views; more views are averaged over pairs. Rows arrive gathered, so lightly's own gathering stays off.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import (
    BatchInfo,
    Objective,
    ObjectiveOutput,
    Views,
    cross_view_pairs,
    teacher_rows,
    view_pairs,
)
from vidssl.objectives.ramp import Ramp


def lightly_loss(name: str, **options: Any) -> nn.Module:
    """A loss of lightly by class name.

    Raises:
        VidsslError: when lightly is not installed.
    """
    try:
        losses = importlib.import_module("lightly.loss")
    except ImportError as error:
        raise VidsslError(
            f'{name} comes from lightly, which cannot be imported ({error}); pip install "vidssl[lightly]"'
        ) from error
    loss: nn.Module = getattr(losses, name)(**options)
    return loss


class PairObjective(Objective):
    """Mean over unordered pairs of the student's projections of a loss of two views (B, d).

    Args:
        loss, options: see `lightly_loss`.
    """

    def __init__(self, loss: str, **options: Any) -> None:
        super().__init__()
        self.lightly = lightly_loss(loss, **options)

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads the student's projections only. Logs: loss."""
        pairs = view_pairs(student, self.log_name)
        if len(pairs[0][0]) < 2:
            raise VidsslError(
                f"{self.log_name}: needs at least 2 videos in the batch, got {len(pairs[0][0])}"
            )
        loss = torch.stack([self.lightly(a, b) for a, b in pairs]).mean()
        return ObjectiveOutput(loss, {"loss": loss})


class InfoNCE(PairObjective):
    """NT-Xent (Chen et al. 2020, SimCLR, arXiv 2002.05709): -log softmax of the positive among 2B - 1 cosines.

    Args:
        temperature: τ.
    """

    log_name = "infonce"

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__("NTXentLoss", temperature=temperature, gather_distributed=False)


class VICReg(PairObjective):
    """Invariance, variance and covariance terms (Bardes et al. 2022, arXiv 2105.04906).

    Args:
        invariance, variance, covariance: weights λ, μ, ν.
    """

    log_name = "vicreg"
    default_projector = (1024, 1024, 1024)

    def __init__(self, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0) -> None:
        weights = {"lambda_param": invariance, "mu_param": variance, "nu_param": covariance}
        super().__init__("VICRegLoss", gather_distributed=False, **weights)


class BarlowTwins(PairObjective):
    """Cross-correlation of two views towards the identity (Zbontar et al. 2021, arXiv 2103.03230).

    Args:
        redundancy: weight λ of the entries off the diagonal.
    """

    log_name = "barlow"
    default_projector = (1024, 1024, 1024)

    def __init__(self, redundancy: float = 5e-3) -> None:
        super().__init__("BarlowTwinsLoss", lambda_param=redundancy, gather_distributed=False)


class BYOL(Objective):
    """-cos(prediction, target) with the teacher's projection of another view (Grill et al. 2020, arXiv 2006.07733)."""

    needs_teacher = True
    needs_predictor = True
    log_name = "byol"

    def __init__(self) -> None:
        super().__init__()
        self.lightly = lightly_loss("NegativeCosineSimilarity")

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Mean over (student view, target view) pairs of different views. Logs: loss, in [-1, 1]."""
        targets = teacher_rows(teacher if self.needs_teacher else student, "byol")
        predictions = [view.predicted for view in student]
        seen = batch.teacher_views if self.needs_teacher and batch is not None else None
        pairs = cross_view_pairs(len(predictions), len(targets), seen)
        loss = torch.stack([self.lightly(predictions[s], targets[t].detach()) for s, t in pairs]).mean()
        return ObjectiveOutput(loss, {"loss": loss})


class SimSiam(BYOL):
    """BYOL without a teacher: the targets are the student's own projections, held fixed (Chen & He 2021,
    arXiv 2011.10566)."""

    needs_teacher = False
    log_name = "simsiam"
    default_projector = (1024, 1024, 1024)
    default_head = {"last_norm": True}  # noqa: RUF012

    @classmethod
    def predictor_sizes(cls, dim: int) -> Sequence[int]:
        """A bottleneck of a quarter of the projection."""
        return (max(dim // 4, 1), dim)

    def select_student(self, view: HeadOutput) -> HeadOutput:
        """Both sides of the loss."""
        return HeadOutput(view.projection, view.prediction, None)


class DINO(Objective):
    """Cross-entropy with the centred, sharpened teacher over prototypes (Caron et al. 2021, arXiv 2104.14294).

    Args:
        dim: number of prototypes, the size of the head's output.
        student_temperature, teacher_temperature: of the softmaxes.
        warmup_teacher_temperature, warmup: the teacher's temperature rises linearly from this over this share of
            training.
        center_momentum: of the running centre of the teacher's rows.
    """

    log_name = "dino"
    needs_teacher = True
    default_projector = (1024, 1024, 256)
    default_head = {"norm": "none", "prototypes": 4096}  # noqa: RUF012 - cosines, for which the temperatures are

    def __init__(
        self,
        dim: int,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        warmup: float = 0.1,
        center_momentum: float = 0.9,
    ) -> None:
        super().__init__()
        self.lightly = lightly_loss(
            "DINOLoss", output_dim=dim, student_temp=student_temperature, center_momentum=center_momentum
        )
        self.ramps = {"teacher_temperature": Ramp(warmup_teacher_temperature, teacher_temperature, warmup)}
        self.teacher_temperature = warmup_teacher_temperature

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Student views against the teacher's of other views. Logs: loss (nats), teacher_temperature."""
        rows, targets = [view.projection for view in student], teacher_rows(teacher, "dino")
        seen = None if batch is None else batch.teacher_views
        if seen is not None:  # lightly skips equal positions, so the views that the teacher sees come first
            rows = [rows[v] for v in seen] + [row for v, row in enumerate(rows) if v not in set(seen)]
        loss: Tensor = self.lightly(targets, rows, teacher_temp=self.teacher_temperature)
        return ObjectiveOutput(
            loss, {"loss": loss, "teacher_temperature": loss.new_tensor(self.teacher_temperature)}
        )
