"""SSL-HSIC: features that depend on which video they come from, and on nothing else.

    loss = -HSIC(Z, Y) + gamma · sqrt(HSIC(Z, Z)),   Y = identity of the video

Li, Pogodin, Sutherland, Gretton 2021, "Self-Supervised Learning with Kernel Dependence Maximization",
arXiv 2106.08320, eqs. 4-5, has a fixed gamma. Here it follows HSIC(Z, Y) / sqrt(HSIC(Z, Z)) unless one is given, which has the
gradient of the alignment of features and identity. On clips the identity can hold for videos that occur twice in a batch,
fade with the time between two clips, and be asked of single frames; `labels` has the derivation.

    >>> objective = SSLHSIC(target=False)
    >>> loss = objective([z1, z2]).loss          # z1, z2 (B, d): two views of each video
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.base import (
    BatchInfo,
    DrawingObjective,
    ObjectiveOutput,
    Views,
    check_views,
    video_ids,
)
from vidssl.objectives.hsic.balance import Balance
from vidssl.objectives.hsic.imq import bandwidth_log_gradient, imq_hsic, log_gradient_from_moments
from vidssl.objectives.hsic.labels import (
    TIME_KERNELS,
    LabelPairs,
    label_pairs,
)
from vidssl.objectives.hsic.random_features import (
    FeatureDraws,
    draw_features,
    feature_pair,
    hsic_xx_of_features,
    hsic_xy_of_labels,
    hsic_xy_of_views,
)
from vidssl.objectives.hsic.rows import collect_rows
from vidssl.objectives.hsic.statistics import HSIC_XX_FLOOR, Hsic
from vidssl.objectives.precision import full_precision, widen
from vidssl.objectives.ramp import Ramp, check_share

ESTIMATORS = ("auto", "exact", "rff")
# Rows up to which the exact kernel is about as fast as 512 random features (benchmarks/objectives.py). On a GPU
# launching takes most of the time at first, and random features are more kernels.
EXACT_ROWS = {"cpu": 2048, "cuda": 8192}


def hsic_exact(views: Sequence[Tensor], scale: float | Tensor) -> tuple[Tensor, Tensor]:
    """HSIC(Z, Y) and HSIC(Z, Z) with the inverse multiquadric kernel c / sqrt(‖x - y‖² + c²).

    Args:
        views: k >= 2 tensors (B, d), l2-normalised, row i of each from video i.
        scale: bandwidth c; receives no gradient.

    Returns:
        hsic_xy: mean of K over pairs of different views of a video minus its mean over all (kB)² pairs; the constant
            1/(k-1) that the pairs v = w would add is not in it.
        hsic_xx: ‖H K H‖_F² / (kB)², biased, never negative.
        Differentiable once in the views. float32 or wider, also under autocast.

    Raises:
        VidsslError: for fewer than two views or unequal shapes.
    """
    check_views(views, "hsic_exact")
    with full_precision(*views):
        rows = torch.cat(widen(list(views)))
        pairs = label_pairs(video_ids(None, views[0]), len(views), dtype=rows.dtype)
        hsic = imq_hsic(rows, scale, pairs, trained=_trained(views))
    return hsic.xy, hsic.xx


def hsic_random_features(
    views: Sequence[Tensor], scale: float | Tensor, features: FeatureDraws
) -> tuple[Tensor, Tensor]:
    """The same two quantities estimated from random features; linear in the number of rows.

    Args:
        views: k >= 2 tensors (B, d), l2-normalised.
        scale: bandwidth c; receives no gradient.
        features: (W_a, b_a, W_b, b_b), W (D, d), b (D,), two independent draws of `sample_imq_features`. Every view
            uses the same draws.

    Returns:
        hsic_xy, unbiased for the exact one, from draw a; hsic_xx from both draws.
    """
    check_views(views, "hsic_random_features")
    with full_precision(*views):
        phi_a, phi_b = feature_pair(torch.cat(widen(list(views))), scale, features)
        return hsic_xy_of_views(phi_a, len(views)), hsic_xx_of_features(phi_a, phi_b)


class SSLHSIC(DrawingObjective):
    """SSL-HSIC on clips or frames, with or without a target network.

    Args:
        gamma: weight of sqrt(HSIC(Z, Z)), published as 3. Spreading the features pays only while their effective rank
            exceeds (gamma / rho)², rho being their invariance. None: it follows kappa · HSIC(Z, Y) / sqrt(HSIC(Z, Z)),
            which is kappa · rho · sqrt(effective rank).
        kappa: where gamma is None: what a relative gain in sqrt(effective rank) is worth against one in invariance. Below 1,
            spreading pays by itself.
        gamma_max: where gamma is None: no more than this. With a kappa far above 1 it is a fixed gamma that waits until some
            identity has been found: rows of which nothing can be told apart are not spread. None: no limit.
        gamma_memory: where gamma is None: follow running means of the batches, see `balance.Balance`.
        gamma_start: value at the start of training; rises linearly to `gamma` over `gamma_ramp`. None: no ramp.
        gamma_ramp: share of training, in (0, 1].
        estimator: "exact" kernel, "rff" random features, or "auto": exact up to the device's EXACT_ROWS.
        num_features: D of each of the two draws, fresh at every step.
        scale: initial bandwidth c.
        learn_scale: let the bandwidth follow the maximum of `bandwidth_log_gradient`.
        target: rows are the student's predictions and the teacher's projections; without it the student's projections.
        same_view_pairs: count rows of one view of a clip as positives (published): prediction and target of the same
            view, frames of the same view. They can be had without any invariance; False leaves these pairs out.
        frames: rows are the frames of the views instead of the views.
        time_width: seconds after which two moments of a video stop counting as alike; None: never (the paper).
        time_kernel: how that fades: "gaussian", "laplace" or "imq".
        bandwidth_rows: rows on either side of the pairs that tune the bandwidth when random features are used.
        seed: of the draws of random features and of rows; give it the same value on every process.
    """

    log_name = "hsic"

    def __init__(
        self,
        gamma: float | None = None,
        kappa: float = 0.8,
        gamma_max: float | None = None,
        gamma_memory: float = 0.0,
        gamma_start: float | None = None,
        gamma_ramp: float = 0.2,
        estimator: str = "auto",
        num_features: int = 512,
        scale: float = 1.0,
        learn_scale: bool = True,
        target: bool = True,
        same_view_pairs: bool = True,
        frames: bool = False,
        time_width: float | None = None,
        time_kernel: str = "gaussian",
        bandwidth_rows: int = 1024,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        check_choice("estimator", estimator, ESTIMATORS)
        check_choice("time_kernel", time_kernel, TIME_KERNELS)
        check_share("gamma_ramp", gamma_ramp)
        check_value("time_width", time_width, time_width is None or time_width > 0, "positive seconds")
        for name, value in (("gamma_max", gamma_max), ("gamma_memory", gamma_memory)):
            if gamma is not None and value:
                raise VidsslError(f"{name}={value}: is for a gamma that follows kappa, and gamma is {gamma}")
        if gamma is None and gamma_start is not None:
            raise VidsslError(f"gamma_start={gamma_start}: is for a gamma that does not follow kappa")
        self.gamma = gamma if gamma_start is None else gamma_start
        self.balance = Balance(kappa, gamma_max, gamma_memory)
        if gamma is not None and self.gamma is not None:
            self.ramps = {"gamma": Ramp(self.gamma, gamma, gamma_ramp)}
        self.estimator, self.num_features, self.bandwidth_rows = estimator, num_features, bandwidth_rows
        self.same_view_pairs, self.time_width, self.time_kernel = same_view_pairs, time_width, time_kernel
        self.needs_teacher = self.needs_predictor = target
        self.needs_frames = frames
        self.scale = nn.Parameter(torch.tensor(float(scale)), requires_grad=learn_scale)

    def param_groups(self) -> list[dict[str, Any]]:
        """The bandwidth has its own Adam settings, free of schedule and decay (as published with the method)."""
        if not self.scale.requires_grad:
            return []
        return [{"params": [self.scale], "lr": 3e-4, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0}]

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Student and teacher views enter one HSIC as k views; see `Objective.forward`.

        Logs: loss, hsic_xy, hsic_xx, scale, log_gradient (the bandwidth objective), gamma; hsic_xy_across and
        hsic_xy_within, HSIC(Z, Y) with positives from different views and from one view alone; rho, the share of
        HSIC(Z, Y) that the rows reach of its value under perfect invariance; effective_rank of the centred kernel
        features, (tr HKH)² / ‖HKH‖_F², which has to stay above rank_needed, (gamma / rho)².
        """
        rows, times, views = collect_rows(
            student, teacher if self.needs_teacher else (), batch, self.needs_frames
        )
        width = None if batch is None else self.time_width
        seconds = torch.stack(times) if times else None
        pairs = label_pairs(
            video_ids(batch, rows[0]), len(rows), seconds, width, self.time_kernel,
            views=views, same_view_pairs=self.same_view_pairs, dtype=rows[0].dtype,
        )  # fmt: skip
        hsic, log_gradient = self._estimate(rows, pairs)
        gamma = self.balance(hsic) if self.gamma is None else hsic.xy.new_tensor(self.gamma)
        loss = gamma * hsic.xx.clamp_min(HSIC_XX_FLOOR).sqrt() - hsic.xy
        logs = {
            "loss": loss,
            "hsic_xy": hsic.xy,
            **hsic.xy_by_view(pairs),
            "hsic_xx": hsic.xx,
            "scale": self.scale.clone(),
            "log_gradient": log_gradient,
            "gamma": gamma,
            "rho": hsic.rho,
            "rank_needed": hsic.rank_needed(gamma),
            "effective_rank": hsic.rank,
        }
        # Trains the bandwidth without changing the value of the loss.
        tuning = log_gradient.detach() - log_gradient
        return ObjectiveOutput(loss + tuning, logs)

    def _estimate(self, views: list[Tensor], pairs: LabelPairs) -> tuple[Hsic, Tensor]:
        """What the loss and its logs are made of, and the objective of the bandwidth."""
        rows = torch.cat(views)
        few = len(rows) <= EXACT_ROWS.get(rows.device.type, EXACT_ROWS["cuda"])
        if self.estimator == "exact" or (self.estimator == "auto" and few):
            exact = imq_hsic(rows, self.scale, pairs, with_log=True, trained=_trained(views))
            scale = self.scale.to(rows.dtype)
            tuning = log_gradient_from_moments(exact.mean_square, exact.mean_log, scale)
            return Hsic(exact.xy, exact.xx, exact.mean_kernel, exact.attraction, exact.within), tuning
        draws = draw_features(
            rows.shape[1], self.num_features, self.generator, device=rows.device, dtype=rows.dtype
        )
        phi_a, phi_b = feature_pair(rows, self.scale, draws)
        mean_kernel = phi_a.detach().mean(dim=0).square().sum()
        xy, attraction, within = hsic_xy_of_labels(phi_a, pairs)
        hsic = Hsic(xy, hsic_xx_of_features(phi_a, phi_b), mean_kernel, attraction, within)
        return hsic, self._log_gradient(views)

    def _log_gradient(self, views: list[Tensor]) -> Tensor:
        """Over all pairs of rows where they are few, else over two independent draws of rows from every view."""
        scale = self.scale.to(views[0].dtype)
        stacked = torch.stack(views).detach()
        k, b, _ = stacked.shape
        if k * b <= self.bandwidth_rows:
            rows = rearrange(stacked, "k b d -> (k b) d")
            return bandwidth_log_gradient(rows, rows, scale)
        draw = torch.randint(b, (2, k, max(self.bandwidth_rows // k, 1)), generator=self.generator)
        view = torch.arange(k)[:, None]
        x1, x2 = (rearrange(stacked[view, rows], "k m d -> (k m) d") for rows in draw.to(stacked.device))
        return bandwidth_log_gradient(x1, x2, scale)


def _trained(views: Sequence[Tensor]) -> int:
    """Number of stacked rows up to the last view that wants a gradient."""
    return len(views[0]) * max((i + 1 for i, view in enumerate(views) if view.requires_grad), default=0)
