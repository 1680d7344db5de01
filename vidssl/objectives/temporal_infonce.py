"""Temporal InfoNCE: a frame is to pick out the frames shown at about the same time of the same video, among all others.

    loss = -Σ_ij w_ij log softmax_{j≠i}(cos(z_i, z_j)/τ) / Σ_ij w_ij,   w_ij = [same video] k(| |t_i - t_j| - offset | / width)

Positives by a time offset, or by a kernel of a continuous label, which is time here, are those of CEBRA (Schneider, Lee &
Mathis 2023, arXiv 2204.00673); in place of one drawn positive a frame has all of them, weighted by the kernel as in
y-aware InfoNCE (Dufumier et al. 2021, arXiv 2106.08808, eq. 3).

    >>> loss = TemporalInfoNCE(time_width=0.5)(views, None, batch).loss     # views with frames (B, T, d)
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.base import (
    BatchInfo,
    Objective,
    ObjectiveOutput,
    Views,
    frame_rows,
    frame_times,
    l2_normalise,
    video_ids,
)
from vidssl.objectives.hsic.labels import TIME_KERNELS, label_pairs


class TemporalInfoNCE(Objective):
    """Every frame of every view against all other frames of the batch.

    Args:
        temperature: τ.
        time_width: seconds over which two moments stop being alike.
        time_offset: seconds between a frame and its best positive; 0: the nearer the better.
        time_kernel: k(u), "gaussian", "laplace" or "imq", see `hsic.labels`.
        same_video_negatives: False compares a positive with frames of other videos only, which leaves out the question
            when in the video it was.
    """

    log_name = "temporal_infonce"
    needs_frames = True

    def __init__(
        self,
        temperature: float = 0.1,
        time_width: float = 0.5,
        time_offset: float = 0.0,
        time_kernel: str = "gaussian",
        same_video_negatives: bool = True,
    ) -> None:
        super().__init__()
        check_value("temperature", temperature, temperature > 0, "positive")
        check_value("time_width", time_width, time_width > 0, "positive")
        check_value("time_offset", time_offset, time_offset >= 0, "at least 0")
        check_choice("time_kernel", time_kernel, TIME_KERNELS)
        self.temperature, self.same_video_negatives = temperature, same_video_negatives
        self.time_width, self.time_offset, self.time_kernel = time_width, time_offset, time_kernel

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads the student's frames and the times. Logs: loss (nats), positives (the mean of Σ_j w_ij)."""
        views = frame_rows(student, predicted=False)
        if batch is None or not batch.times:
            raise VidsslError("temporal_infonce: the batch gives no times")
        seconds = torch.cat(
            [frame_times(t, view.shape[1]) for t, view in zip(batch.times, views, strict=True)], dim=1
        )
        z = l2_normalise(rearrange(torch.cat(views, dim=1), "b r d -> (r b) d"))
        video = video_ids(batch, views[0])
        first, second, weight = self._positives(video, seconds.to(z))
        logits = z @ z.T / self.temperature
        chosen = logits[first, second]
        if self.same_video_negatives:
            others = torch.eye(len(z), dtype=torch.bool, device=z.device)
            against = logits.masked_fill(others, -torch.inf).logsumexp(dim=1)[first]
        else:
            rows = video.repeat(seconds.shape[1])
            negative = logits.masked_fill(rows[:, None] == rows, -torch.inf).logsumexp(dim=1)
            against = torch.logaddexp(negative[first], chosen)
        # Where no frame has a positive, as with an offset beyond the clip, the loss is 0 and so is the log's `positives`.
        total = weight.sum()
        loss = (weight * (against - chosen)).sum() / total.clamp_min(torch.finfo(weight.dtype).tiny)
        return ObjectiveOutput(loss, {"loss": loss, "positives": total / len(z)})

    def _positives(self, video: Tensor, seconds: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pairs of two rows of a video, row r·B + i being the r-th of video i, and their weights.

        Args:
            video: (B,).
            seconds: (B, R) of the rows.
        """
        pairs = label_pairs(video, seconds.shape[1], dtype=seconds.dtype)
        first, second = pairs.first, pairs.second
        times = rearrange(seconds, "b r -> (r b)")
        apart = ((times[first] - times[second]).abs() - self.time_offset).abs() / self.time_width
        return first, second, TIME_KERNELS[self.time_kernel](apart)
