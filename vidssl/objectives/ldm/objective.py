"""Latent distribution matching: latents that a probabilistic model of their motion explains, and that fill their space.

    loss = -alignment - w · T · H[z],    alignment = mean_b Σ_t log p(z_t | z_<t)

z_t is the projection of frame t, p a learned Kalman filter or a recurrent network, H the entropy of the latents. Both
encoder and model are trained; the entropy is what keeps the encoder from making the latents trivial to predict.
Mikulasch & Zenke 2026, "Understanding Self-Supervised Learning via Latent Distribution Matching", arXiv 2605.03517,
eqs. 13 and 15.

Two rules follow from the fact that z → s z adds D log s to the entropy of every frame and takes it from its likelihood:
the entropy is multiplied by exactly as many frames as are predicted, and where the model may choose the scale of z
(a learned R) the loss has an optimum only for w = 1. With R = I the scale is fixed and w is free.

The encoder must not show frame t what comes later, else the prediction is trivial: one frame at a time, causal in time,
or, where receptive fields overlap, `lag` at least as long as they are.

    >>> objective = LDM(dim=16, entropy="logdet")
    >>> loss = objective([z]).loss                  # z (B, T, 16) per view
    >>> objective.after_step()                      # after the optimiser's step
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.dynamics.transitions import log_spectral_radius
from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.objectives.base import (
    BatchInfo,
    DrawingObjective,
    ObjectiveOutput,
    Views,
    own_rows,
    video_ids,
)
from vidssl.objectives.ldm.frame_entropy import KNN_DIMS, SCALE_FREE, FrameEntropy, check_entropy
from vidssl.objectives.ldm.models import MotionModel, motion_model, published_rate
from vidssl.objectives.ldm.prediction import align, calibrate
from vidssl.objectives.ldm.views import LatentView, latent_views, teacher_targets

MAX_RADIUS = 1.02
# Training steps, since the start or a resume, in which values are checked and errors name what is wrong. Later they are a loss
# that is not finite, and the trainer skips the step: every check waits for the GPU.
CHECKED_STEPS = 10


class LDM(DrawingObjective):
    """Latent distribution matching on the frames of every view; the mean over views.

    Args:
        dim: of the per-frame rows: m, or 2m with observation_noise="input".
        dynamics: "kalman", `LinearGaussianSSM`, or "rnn", `RecurrentPredictor`, made from the options below; or a
            function that makes either, called with the `generator` of start values. The options of the model are then
            not read: ``LDM(2, partial(RecurrentPredictor, 2, hidden_dim=10, head=(), start_variance=0.19))``.
        entropy: "logdet", "knn", "kde", "taylor" (see `vidssl.objectives.entropy`); "auto": knn up to 8 dimensions,
            else logdet (stopgrad with a teacher); "stopgrad": none, the target is cut off from the gradient instead, which has the gradient of
            a conditional entropy as long as the model is at its optimum for the encoder of the moment.
            "sigreg": holds the frames to N(0, I) instead, see `frame_entropy`.
        entropy_weight: w; exactly 1 where the model learns the scale, unless z has one of its own ("sigreg"). 0 collapses.
        pool: "batch_time": one entropy of all frames of the batch; "within_clip": of their differences from the mean of
            their clip ("logdet", "taylor"), else latents that stand still and tell clips apart are the easiest; "per_step":
            the mean of one per frame number, for clips whose distribution drifts, but not for clips that all start alike.
        target: what is predicted: the rows of the "student", or of the "teacher" for the same view, from the student's
            past; views that the teacher does not see are left out. Only with "stopgrad", see `check_entropy`.
        state_dim: n of the Kalman model, m when None. More leaves room for velocities.
        transition, process_noise: of the Kalman model, see `LinearGaussianSSM`. "continuous" uses the frames' times.
        scale: "learned": Q, R and the prior share a learned factor; "fixed"; "auto": learned, but fixed where R = I is to
            hold the scale of z against an entropy.
        observation_noise: R, see `LinearGaussianSSM`. With "identity" (as published) clean frames can say that they are
            clean only by growing, as slowly as the encoder learns. "input": the second half of every row says how noisy
            its frame is, which also lets the model give up on hard frames (watch log_det_R). For "rnn": "identity" or
            "diag".
        calibrate: a model that learns the scale starts from that of the first batch's latents.
        time_unit: seconds to which a continuous model refers.
        hidden_dim: of the LSTM.
        horizon: predict 1, 2, … `horizon` frames ahead (from `lag` on); the entropy is multiplied by the sum of weights.
        horizon_decay: each further frame counts this much less, in (0, 1].
        lag: the nearest frame to predict; more than 1 where neighbouring latents see the same frames.
        burn_in: first frames that are not predicted, only seen.
        drop_frames: share of frames hidden from the predictor in training, in [0, 1). They are still to be predicted.
        neighbours, clip_quantile: of "knn"; a quantile of 1 clips nothing.
        bandwidth: of "kde"; None: the standard deviation that the model predicts.
        max_rows: of "knn" and "kde", whose cost grows with the square.
        other_clips: of "knn" and "kde": only frames of other videos are neighbours, of which there must be more than
            `neighbours`. False, as published: also those of one's own clip, which are the nearest of all.
        memory: of "logdet": share of past batches in the covariance, for batches of few clips, see `RunningCovariance`.
        reduction: "sum" over the predicted frames, as published, or their "mean".
        method: of `kalman_filter`.
        lr_multiplier: learning rate of the model relative to the encoder's; None: 100 for "kalman", 30 for "rnn".
        seed: of start values and draws; give it the same value on every process.

    A frame whose time does not lie after all earlier ones is padding: it is not seen, predicted, or counted anywhere.

    Raises:
        VidsslError: for options that are unknown, out of range, or do not fit together.
    """

    log_name = "ldm"
    needs_frames = True
    predicts_frames = True
    default_projector = (256, 16)
    # No norm on the output and none over the batch: either would fix the scale of z, which is the model's to fix, and
    # batch statistics would tell a frame about its future. A layer norm inside makes the start independent of the
    # encoder's units.
    default_head = {"norm": "layer", "last_bias": True}  # noqa: RUF012

    def __init__(
        self,
        dim: int,
        dynamics: str | Callable[..., MotionModel] = "kalman",
        entropy: str = "auto",
        entropy_weight: float = 1.0,
        pool: str = "batch_time",
        target: str = "student",
        state_dim: int | None = None,
        transition: str = "near_identity",
        process_noise: str = "diag",
        observation_noise: str = "diag",
        scale: str = "auto",
        calibrate: bool = True,
        time_unit: float = 1.0,
        hidden_dim: int = 64,
        horizon: int = 1,
        horizon_decay: float = 1.0,
        lag: int = 1,
        burn_in: int = 0,
        drop_frames: float = 0.0,
        neighbours: int = 3,
        clip_quantile: float = 1.0,
        bandwidth: float | None = None,
        max_rows: int = 2048,
        other_clips: bool = False,
        memory: float = 0.0,
        reduction: str = "sum",
        method: str = "joseph",
        lr_multiplier: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        check_choice("target", target, ("student", "teacher"))
        entropy = check_entropy(entropy, target)
        check_choice("reduction", reduction, ("sum", "mean"))
        check_value("horizon", horizon, horizon >= 1, "at least 1 frame")
        check_value("horizon_decay", horizon_decay, 0 < horizon_decay <= 1, "in (0, 1]")
        check_value("lag", lag, lag >= 1, "at least 1 frame")
        check_value("burn_in", burn_in, burn_in >= 0, "at least 0 frames")
        check_value("drop_frames", drop_frames, 0 <= drop_frames < 1, "in [0, 1)")
        check_value("entropy_weight", entropy_weight, entropy_weight >= 0, "at least 0")
        self.model = (
            motion_model(
                dim,
                dynamics,
                self.generator,
                state_dim=state_dim,
                transition=transition,
                process_noise=process_noise,
                observation_noise=observation_noise,
                scale=scale,
                entropy=entropy,
                time_unit=time_unit,
                hidden_dim=hidden_dim,
            )
            if isinstance(dynamics, str)
            else dynamics(generator=self.generator)
        )
        self.dim = self.model.latent_dim
        self.noise_from_input = isinstance(self.model, LinearGaussianSSM) and self.model.R == "input"
        if (width := self.dim * (1 + self.noise_from_input)) != dim:
            raise VidsslError(f"dynamics: the model is one of rows of {width} dimensions, not of {dim}")
        if entropy == "auto":
            entropy = "knn" if self.dim <= KNN_DIMS else "logdet"
        self.entropy, self.entropy_weight, self.target = entropy, entropy_weight, target
        self.needs_teacher = target == "teacher"
        self.weights = {lag + h: horizon_decay**h for h in range(horizon)}
        self.burn_in, self.drop_frames = burn_in, drop_frames
        self.reduction, self.method = reduction, method
        self.lr_multiplier = published_rate(self.model) if lr_multiplier is None else lr_multiplier
        estimator = "logdet" if entropy == "stopgrad" else entropy
        details = (neighbours, clip_quantile, bandwidth, max_rows, other_clips, memory)
        self.frame_entropy = FrameEntropy(estimator, self.dim, self.generator, pool, *details)
        self.checked = 0
        # Whether the model has met the scale of the latents; in the checkpoint.
        self.calibrated = not (calibrate and self.model.learns_scale)
        if self.model.learns_scale and entropy not in SCALE_FREE and entropy_weight != 1:
            raise VidsslError(
                f"entropy_weight={entropy_weight}: must be exactly 1 where the model learns the scale of z "
                "(observation_noise other than 'identity', or scale='learned'), else the loss has no optimum"
            )

    def get_extra_state(self) -> Tensor:
        """The state of the draws, and whether the model is calibrated."""
        return torch.cat([super().get_extra_state(), torch.tensor([self.calibrated], dtype=torch.uint8)])

    def set_extra_state(self, state: Tensor) -> None:
        super().set_extra_state(state[:-1])
        self.calibrated = bool(state[-1])

    def param_groups(self) -> list[dict[str, Any]]:
        """The model follows the schedule at `lr_multiplier` times its rate, without weight decay."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters, "lr_scale": self.lr_multiplier, "weight_decay": 0.0}]

    def after_step(self) -> None:
        """For after every step of the optimiser: keeps the spectral radius of the Kalman model below 1.02."""
        if isinstance(self.model, LinearGaussianSSM):
            self.model.project_stable_(MAX_RADIUS)

    def evaluate(self, student: Views, teacher: Views, batch: BatchInfo | None) -> ObjectiveOutput:
        """Reads per-frame projections; see `Objective.forward`.

        Logs, means over views: loss; alignment, summed over frames and horizons; alignment_per_dim, per predicted
        number; entropy of one frame; std of z per dimension. With "kalman" also spectral_radius, and gain, the mean
        modulus of the Kalman gain: at 0 the filter ignores what it sees. With learned noise log_det_R (of the
        prediction with "rnn").

        A non-finite latent gives a non-finite loss, not an error.
        """
        views, own = self._views(student, teacher, batch), own_rows(batch)
        read = [x.detach().sum() for view in views for x in (view.z, view.target, view.R) if x is not None]
        undefined = 0 * torch.stack(read).sum()  # 0, but NaN where any of it is not finite
        check = not self.training or self.checked < CHECKED_STEPS
        self.checked += self.training
        if check and not bool(torch.isfinite(undefined)):
            loss = undefined + sum(view.z.sum() for view in views)
            return ObjectiveOutput(loss, {"loss": loss})
        if self.training and not self.calibrated:
            # Rows are those of all processes, so that these go on alike.
            longest = max(views, key=lambda view: view.z.shape[1])
            calibrate(self.model, longest)
            self.calibrated = True
        clip = video_ids(batch, views[0].z)
        losses, logs = zip(*(self._view_loss(view, clip, own, check) for view in views), strict=True)
        means = {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}
        loss = torch.stack(losses).mean() + undefined
        if isinstance(self.model, LinearGaussianSSM):
            means["spectral_radius"] = log_spectral_radius(self.model.transition()).exp()
        return ObjectiveOutput(loss, {"loss": loss, **means})

    def _views(self, student: Views, teacher: Views, batch: BatchInfo | None) -> list[LatentView]:
        """What is read of the views, checked."""
        targets = teacher_targets(teacher, batch) if self.needs_teacher else None
        views = latent_views(student, targets, batch, self.dim, self.noise_from_input)
        if not views:
            raise VidsslError("ldm: target='teacher': the teacher sees none of the student's views")
        frames = min(view.z.shape[1] for view in views)
        if frames <= max(self.weights):
            raise VidsslError(
                f"ldm: predicting {max(self.weights)} frames ahead needs more than {frames} frames"
            )
        continuous = isinstance(self.model, LinearGaussianSSM) and self.model.continuous
        if continuous and any(view.times is None for view in views):
            raise VidsslError("ldm: transition='continuous': the batch gives no times")
        if targets is None and self.entropy == "stopgrad":
            return [view._replace(target=view.z.detach()) for view in views]
        return views

    def _view_loss(
        self, view: LatentView, clip: Tensor, own: slice, check: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        seen = self._seen(view)
        found = align(
            self.model,
            view.of(own),
            None if seen is None else seen[own],
            self.weights,
            self.burn_in,
            self.method,
            check,
        )
        # Per sequence: a mean over the batch of sums over frames, and how many frames that is.
        alignment, count = found.log_likelihood / len(view.z), found.frames / len(view.z)
        if check and not bool(count > 0):
            raise VidsslError("ldm: no frame to predict; times must increase from frame to frame")
        rows = view.z.detach().flatten(0, 1) if view.valid is None else view.z.detach()[view.valid]
        logs, loss = {"std": rows.std(dim=0).mean(), **found.logs}, -alignment
        if self.entropy != "stopgrad":
            entropy = self.frame_entropy(view.z, view.valid, clip, found.noise_scale, check)
            loss = loss - self.entropy_weight * count * entropy
            logs["entropy"] = entropy
        logs["alignment"] = alignment
        logs["alignment_per_dim"] = alignment / (count * self.dim)
        return loss / count if self.reduction == "mean" else loss, logs

    def _seen(self, view: LatentView) -> Tensor | None:
        """(B, T) which frames the predictor is shown; None: all."""
        if not (self.training and self.drop_frames):
            return view.valid
        draw = torch.rand(view.z.shape[:2], generator=self.generator)
        kept = (draw >= self.drop_frames).to(view.z.device)
        return kept if view.valid is None else kept & view.valid
