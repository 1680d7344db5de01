"""Spectral contrastive loss: attract two views, repel different videos by the squared inner product.

HaoChen, Wei, Gaidon, Ma 2021, "Provable Guarantees for Self-Supervised Deep Learning with Spectral Contrastive Loss",
arXiv 2106.04156. The temporal form attracts a frame to a later one through a learned linear evolution operator.

    >>> loss = SpectralContrastive(mu=10.0)([z1, z2]).loss     # z1, z2 (B, d), not normalised
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from einops import rearrange
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.base import (
    BatchInfo,
    Objective,
    ObjectiveOutput,
    Views,
    different_videos,
    frame_rows,
    video_ids,
    view_pairs,
)
from vidssl.objectives.vamp import vamp2_score


def spectral_contrastive_loss(
    z1: Tensor, z2: Tensor, mu: float = 1.0, clip: bool = True, video_id: Tensor | None = None
) -> Tensor:
    """(-2 mean_i <z1_i, z2_i> + mean_{i≠j} <z1_i, z2_j>²) / mu of rows clipped to a squared norm of mu.

    Args:
        z1, z2: (B, d) projections of the two views, row i of both from the same video; not normalised.
        mu: squared norm to which longer rows are clipped; where all are, also the weight of the repulsion.
        clip: False leaves the norms as they are.
        video_id: (V,) equal for rows of one video, B a multiple of V: each has B/V rows, one after the other. The second
            mean is over pairs of different videos, and zero when there is none; over all i ≠ j without it.

    Returns:
        Scalar, at least -2 when clipped.

    Raises:
        ValueError: if the shapes differ, B < 2, or mu is not positive.
    """
    if z1.ndim != 2 or z1.shape != z2.shape:
        raise VidsslError(
            f"spectral: views must be (B, d) of one shape, got {tuple(z1.shape)} and {tuple(z2.shape)}"
        )
    if z1.shape[0] < 2:
        raise VidsslError(f"spectral: needs at least 2 videos in the batch, got {z1.shape[0]}")
    if mu <= 0:
        raise VidsslError(f"spectral: mu={mu}: must be positive")
    if clip:
        z1, z2 = clip_norm(z1, mu), clip_norm(z2, mu)
    attraction = -2 * (z1 * z2).sum(dim=1).mean()
    return (attraction + mean_square_product(z1, z2, video_id)) / mu


def mean_square_product(x: Tensor, y: Tensor, video_id: Tensor | None = None) -> Tensor:
    """mean of <x_i, y_j>² over the pairs of rows (B, d) that `spectral_contrastive_loss` takes from `video_id`.

    Over all pairs the sum is tr(X'X Y'Y), with d² numbers in place of B²; those of one video are then taken from it. It is
    computed so for B > 2d, where it is the faster.
    """
    n, d = x.shape
    if n <= 2 * d:
        squares = (x @ y.T).square()
        if video_id is None:
            return (squares.sum() - squares.diagonal().sum()) / (n * (n - 1))
        negatives = different_videos(video_id.repeat_interleave(n // len(video_id)))
        return (squares * negatives).sum() / negatives.sum().clamp_min(1)
    if video_id is None:
        steps, first = 1, torch.arange(n, device=x.device)
        second = first
    else:
        steps = n // len(video_id)
        first, second = torch.nonzero(~different_videos(video_id), as_tuple=True)
    pairs = n * n - len(first) * steps * steps
    if not pairs:
        return 0 * (x.sum() + y.sum())
    x_blocks, y_blocks = (rearrange(rows, "(v t) d -> v t d", t=steps) for rows in (x, y))
    same = torch.einsum("ptd,psd->pts", x_blocks[first], y_blocks[second]).square().sum()
    return (((x.T @ x) * (y.T @ y)).sum() - same) / pairs


def clip_norm(z: Tensor, mu: float) -> Tensor:
    """Rows longer than sqrt(mu) shortened to it; the gradient flows through the shortening."""
    radius = math.sqrt(mu)
    norm: Tensor = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z * (radius / norm.clamp_min(radius))


class SpectralContrastive(Objective):
    """Spectral contrastive loss, averaged over all unordered pairs of views.

    Args:
        mu: see `spectral_contrastive_loss`; published values are 1 (CIFAR) and 10 (ImageNet).
        clip: clip the norms.
        negatives: "global": rows of the whole batch; "process": only rows of the same process, as data parallelism
            without a gather would have it. Rows of the same video never repel each other.
    """

    log_name = "spectral"
    default_projector = (1024, 1024, 1024)
    default_head = {"last_norm": True}  # noqa: RUF012

    def __init__(self, mu: float = 1.0, clip: bool = True, negatives: str = "global") -> None:
        super().__init__()
        check_choice("negatives", negatives, ("global", "process"))
        self.mu, self.clip, self.negatives = mu, clip, negatives

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads the student's projections. Logs: loss."""
        pairs = view_pairs(student, "spectral")
        videos = None if batch is None else video_ids(batch, pairs[0][0])
        counts = None if batch is None else batch.rows_per_process
        blocks = [slice(None)]
        if self.negatives == "process" and counts is not None:
            edges = [sum(counts[:p]) for p in range(len(counts) + 1)]
            # A process with a single row has no negative and takes no part.
            blocks = [slice(a, b) for a, b in pairwise(edges) if b - a >= 2]
            if not blocks:
                raise VidsslError("spectral: negatives='process' needs at least 2 videos on some process")
        losses = [
            spectral_contrastive_loss(
                a[rows], b[rows], self.mu, self.clip, None if videos is None else videos[rows]
            )
            for a, b in pairs
            for rows in blocks
        ]
        loss = torch.stack(losses).mean()
        return ObjectiveOutput(loss, {"loss": loss})


class TemporalSpectral(Objective):
    """Spectral contrastive loss between a frame and the one `lag` frames later, through a linear operator.

    Rows x are frames at t, rows y the operator applied to frames at t + lag; the minimiser factorises the transition
    density of the process, and the operator is its evolution in feature space (Turri et al. 2025, self-supervised
    evolution operator learning, whose loss this is for clip=False and mu=1).

    Args:
        dim: d of the per-frame rows.
        lag: in feature frames, at least 1.
        mu, clip: see `spectral_contrastive_loss`.
        same_video_negatives: let frames of the same video at other moments repel each other too.
    """

    log_name = "temporal_spectral"
    needs_frames = True

    def __init__(
        self, dim: int, lag: int = 1, mu: float = 1.0, clip: bool = False, same_video_negatives: bool = False
    ) -> None:
        super().__init__()
        check_value("lag", lag, lag >= 1, "at least 1 frame")
        self.lag, self.mu, self.clip, self.same_video_negatives = lag, mu, clip, same_video_negatives
        self.evolution = nn.Linear(dim, dim, bias=False)
        nn.init.eye_(self.evolution.weight)  # nothing changes: the best guess before any training

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads the student's frames, mean over views. Logs: loss; where they are kept also operator_norm (spectral radius
        bound), and vamp2, the held-out `vamp2_score` of the frames between two halves of the batch's videos."""
        views = frame_rows(student, predicted=False)
        loss = torch.stack([self._view_loss(frames, batch) for frames in views]).mean()
        logs = {"loss": loss}
        if self.keeps_logs:
            logs["operator_norm"] = torch.linalg.matrix_norm(self.evolution.weight.detach(), 2)
            videos = video_ids(batch, views[0])
            second_half = videos.unique(return_inverse=True)[1] % 2 == 1
            if bool(second_half.any()):
                scores = [self._held_out_score(frames.detach(), second_half) for frames in views]
                logs["vamp2"] = torch.stack(scores).mean()
        return ObjectiveOutput(loss, logs)

    def _held_out_score(self, frames: Tensor, second_half: Tensor) -> Tensor:
        """Mean over both halves as the ones to judge on; a video is in one of them."""
        first, second = (
            (half[:, : -self.lag].flatten(0, 1), half[:, self.lag :].flatten(0, 1))
            for half in (frames[~second_half], frames[second_half])
        )
        return (vamp2_score(first, second) + vamp2_score(second, first)) / 2

    def _view_loss(self, frames: Tensor, batch: BatchInfo | None) -> Tensor:
        t = frames.shape[1]
        if t <= self.lag:
            raise VidsslError(f"temporal_spectral: lag={self.lag} needs more than {t} frames")
        now = rearrange(frames[:, : t - self.lag], "b t d -> (b t) d")
        later = rearrange(frames[:, self.lag :], "b t d -> (b t) d")
        videos = None if self.same_video_negatives else video_ids(batch, frames)
        return spectral_contrastive_loss(now, self.evolution(later), self.mu, self.clip, videos)
