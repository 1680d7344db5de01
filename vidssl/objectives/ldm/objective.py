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

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics.kalman import innovation_log_likelihood, kalman_filter, multi_step
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.errors import VidsslError, check_choice
from vidssl.objectives.base import BatchInfo, Objective, ObjectiveOutput, View, frame_rows, frame_times
from vidssl.objectives.ldm.frame_entropy import ESTIMATORS, FrameEntropy
from vidssl.objectives.precision import in_full_precision

DYNAMICS = ("kalman", "rnn")
ENTROPIES = ("auto", *ESTIMATORS, "stopgrad")
TARGETS = ("student", "teacher")
SCALES = ("auto", "fixed", "learned")
REDUCTIONS = ("sum", "mean")
# Up to this many dimensions nearest neighbours are near enough to follow a density of any shape.
KNN_DIMS = 8
# How much faster than the encoder the model learns, as published for either predictor.
LR_MULTIPLIERS = {"kalman": 100.0, "rnn": 30.0}
MAX_RADIUS = 1.02
RNN_NOISES = {"identity": "fixed", "diag": "learned"}


class _View(NamedTuple):
    """One view: latents and targets (B, T, m), noise of the observations, which frames are real, and when they are."""

    z: Tensor
    target: Tensor
    R: Tensor | None
    valid: Tensor | None
    times: Tensor | None


class _Prediction(NamedTuple):
    """Gaussians (B, T - first, m), (…, m, m) for the frames from `first` on."""

    mean: Tensor
    cov: Tensor
    first: int


class LDM(Objective):
    """Latent distribution matching on the frames of every view; the mean over views.

    Args:
        dim: of the per-frame rows: m, or 2m with observation_noise="input".
        dynamics: "kalman", `LinearGaussianSSM`, or "rnn", `RecurrentPredictor`.
        entropy: "logdet", "knn", "kde", "taylor" (see `vidssl.objectives.entropy`); "auto": knn up to 8 dimensions,
            else logdet; "stopgrad": none, the target is cut off from the gradient instead, which has the gradient of
            a conditional entropy as long as the model is at its optimum for the encoder of the moment.
        entropy_weight: w; exactly 1 where the model learns the scale. 0 collapses.
        pool: "batch_time": one entropy of all frames of the batch; "per_step": the mean of one per frame number, for
            clips whose distribution drifts, but wrong for clips that all start at the same point of a cycle.
        target: what is predicted: the rows of the "student", or of the "teacher" for the same view, from the student's
            past; views that the teacher does not see are left out.
        state_dim: n of the Kalman model, m when None. More leaves room for velocities.
        transition, process_noise: of the Kalman model, see `LinearGaussianSSM`. "continuous" uses the frames' times.
        scale: "learned": Q and R share a learned factor; "fixed"; "auto": learned with "stopgrad", whose small latents
            would else drown in R = I before the encoder has learned anything, and fixed with an entropy.
        observation_noise: R, see `LinearGaussianSSM`; "input": the second half of every row says how noisy its frame
            is, which also lets the model give up on hard frames (watch log_det_R). For "rnn": "identity" or "diag".
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
        reduction: "sum" over the predicted frames, as published, or their "mean".
        method: of `kalman_filter`.
        lr_multiplier: learning rate of the model relative to the encoder's; None: 100 for "kalman", 30 for "rnn".
        seed: of start values and draws; give it the same value on every process.

    A frame whose time does not lie after all earlier ones is padding: it is not seen, predicted, or counted anywhere.

    Raises:
        VidsslError: for options that are unknown, out of range, or do not fit together.
    """

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
        dynamics: str = "kalman",
        entropy: str = "auto",
        entropy_weight: float = 1.0,
        pool: str = "batch_time",
        target: str = "student",
        state_dim: int | None = None,
        transition: str = "near_identity",
        process_noise: str = "diag",
        observation_noise: str = "identity",
        scale: str = "auto",
        time_unit: float = 1.0,
        hidden_dim: int = 64,
        horizon: int = 1,
        horizon_decay: float = 1.0,
        lag: int = 1,
        burn_in: int = 0,
        drop_frames: float = 0.0,
        neighbours: int = 3,
        clip_quantile: float = 0.9,
        bandwidth: float | None = None,
        max_rows: int = 2048,
        reduction: str = "sum",
        method: str = "joseph",
        lr_multiplier: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_choice("dynamics", dynamics, DYNAMICS)
        check_choice("entropy", entropy, ENTROPIES)
        check_choice("target", target, TARGETS)
        check_choice("scale", scale, SCALES)
        check_choice("reduction", reduction, REDUCTIONS)
        for name, value, fits, allowed in (
            ("horizon", horizon, horizon >= 1, "at least 1 frame"),
            ("horizon_decay", horizon_decay, 0 < horizon_decay <= 1, "in (0, 1]"),
            ("lag", lag, lag >= 1, "at least 1 frame"),
            ("burn_in", burn_in, burn_in >= 0, "at least 0 frames"),
            ("drop_frames", drop_frames, 0 <= drop_frames < 1, "in [0, 1)"),
            ("entropy_weight", entropy_weight, entropy_weight >= 0, "at least 0"),
        ):
            if not fits:
                raise VidsslError(f"{name}={value}: must be {allowed}")
        self.noise_from_input = observation_noise == "input"
        if self.noise_from_input and dim % 2:
            raise VidsslError(f"observation_noise='input': needs an even number of dimensions, got {dim}")
        self.dim = dim // 2 if self.noise_from_input else dim
        self.entropy = entropy
        if entropy == "auto":
            self.entropy = "knn" if self.dim <= KNN_DIMS else "logdet"
        self.entropy_weight, self.target = entropy_weight, target
        self.needs_teacher = target == "teacher"
        self.weights = {lag + h: horizon_decay**h for h in range(horizon)}
        self.burn_in, self.drop_frames = burn_in, drop_frames
        self.reduction, self.method = reduction, method
        self.lr_multiplier = LR_MULTIPLIERS[dynamics] if lr_multiplier is None else lr_multiplier
        self.generator = torch.Generator().manual_seed(seed)
        estimator = "logdet" if self.entropy == "stopgrad" else self.entropy
        self.frame_entropy = FrameEntropy(
            estimator, pool, neighbours, clip_quantile, bandwidth, max_rows, self.generator
        )
        self.model: LinearGaussianSSM | RecurrentPredictor
        if dynamics == "kalman":
            self.model = LinearGaussianSSM(
                self.dim if state_dim is None else int(state_dim),
                self.dim,
                transition,
                process_noise,
                observation_noise,
                joint_scale=scale == "learned" or (scale == "auto" and entropy == "stopgrad"),
                time_unit=time_unit,
                generator=self.generator,
            )
        else:
            given = (state_dim, transition, process_noise)
            if given != (None, "near_identity", "diag") or scale == "learned":
                raise VidsslError(
                    "dynamics='rnn': state_dim, transition, process_noise and scale='learned' are for 'kalman'"
                )
            if observation_noise not in RNN_NOISES:
                raise VidsslError(f"dynamics='rnn': observation_noise is one of {', '.join(RNN_NOISES)}")
            self.model = RecurrentPredictor(
                self.dim,
                hidden_dim,
                (hidden_dim, hidden_dim),
                RNN_NOISES[observation_noise],
                generator=self.generator,
            )
        if self.model.learns_scale and self.entropy != "stopgrad" and entropy_weight != 1:
            raise VidsslError(
                f"entropy_weight={entropy_weight}: must be exactly 1 where the model learns the scale of z "
                "(observation_noise other than 'identity', or scale='learned'), else the loss has no optimum"
            )

    def param_groups(self) -> list[dict[str, Any]]:
        """The model follows the schedule at `lr_multiplier` times its rate, without weight decay."""
        parameters = [p for p in self.parameters() if p.requires_grad]
        return [{"params": parameters, "lr_scale": self.lr_multiplier, "weight_decay": 0.0}]

    def after_step(self) -> None:
        """For after every step of the optimiser: keeps the spectral radius of the Kalman model below 1.02."""
        if isinstance(self.model, LinearGaussianSSM):
            self.model.project_stable_(MAX_RADIUS)

    def get_extra_state(self) -> Tensor:
        """State of the draws, so that a resumed run repeats them."""
        return self.generator.get_state()

    def set_extra_state(self, state: Tensor) -> None:
        self.generator.set_state(state.cpu().to(torch.uint8))

    @in_full_precision
    def forward(
        self,
        student: Sequence[View],
        teacher: Sequence[View] | None = None,
        batch: BatchInfo | None = None,
    ) -> ObjectiveOutput:
        """Reads per-frame projections; see `Objective.forward`.

        Logs, means over views: loss; alignment, summed over frames and horizons; alignment_per_dim, per predicted
        number; entropy of one frame; std of z per dimension. With "kalman" also spectral_radius, and gain, the mean
        modulus of the Kalman gain: at 0 the filter ignores what it sees. With learned noise log_det_R (of the
        prediction with "rnn").

        A non-finite latent gives a non-finite loss, not an error.
        """
        views = self._views(student, teacher, batch)
        read = [x.sum() for view in views for x in (view.z, view.target, view.R) if x is not None]
        total = torch.stack(read).sum()
        if not bool(torch.isfinite(total)):
            loss = torch.nan * total
            return ObjectiveOutput(loss, {"ldm/loss": loss.detach()})
        losses, logs = zip(*(self._view_loss(view) for view in views), strict=True)
        means = {key: torch.stack([log[key] for log in logs]).mean() for key in logs[0]}
        loss = torch.stack(losses).mean()
        if isinstance(self.model, LinearGaussianSSM):
            means["spectral_radius"] = loss.new_tensor(self.model.spectral_radius())
        return ObjectiveOutput(
            loss, {"ldm/loss": loss.detach(), **{f"ldm/{key}": v for key, v in means.items()}}
        )

    # -- what is predicted -------------------------------------------------------------------------------------------------

    def _views(
        self, student: Sequence[View], teacher: Sequence[View] | None, batch: BatchInfo | None
    ) -> list[_View]:
        rows = frame_rows(student, predicted=False)
        targets: dict[int, Tensor] = {}
        if self.needs_teacher:
            if not teacher:
                raise VidsslError("ldm: target='teacher' needs the rows of a teacher")
            seen = range(len(teacher)) if batch is None else batch.teacher_views or range(len(teacher))
            targets = dict(zip(seen, frame_rows(teacher, predicted=False), strict=True))
        views = []
        for v, row in enumerate(rows):
            if self.needs_teacher and v not in targets:
                continue
            times = frame_times(batch.times[v], row.shape[1]) if batch is not None and batch.times else None
            views.append(self._view(row, targets.get(v), times))
        if not views:
            raise VidsslError("ldm: target='teacher': the teacher sees none of the student's views")
        return views

    def _view(self, rows: Tensor, target: Tensor | None, times: Tensor | None) -> _View:
        if rows.shape[2] != self.dim * (1 + self.noise_from_input):
            raise VidsslError(
                f"ldm: rows have {rows.shape[2]} dimensions; the model was built for "
                f"{self.dim * (1 + self.noise_from_input)}"
            )
        if rows.shape[1] <= max(self.weights):
            raise VidsslError(
                f"ldm: predicting {max(self.weights)} frames ahead needs more than {rows.shape[1]} frames"
            )
        valid = None if times is None else _real_frames(times)
        if valid is not None:
            rows = torch.where(valid[..., None], rows, 0)
        z, raw = rows[..., : self.dim], rows[..., self.dim :]
        if target is None:
            target = z.detach() if self.entropy == "stopgrad" else z
        else:
            target = target[..., : self.dim].detach()
            target = target if valid is None else torch.where(valid[..., None], target, 0)
        continuous = isinstance(self.model, LinearGaussianSSM) and self.model.continuous
        if continuous and times is None:
            raise VidsslError("ldm: transition='continuous': the batch gives no times")
        R = input_noise(raw) if self.noise_from_input else None
        return _View(z, target, R, valid, times if continuous else None)

    def _view_loss(self, view: _View) -> tuple[Tensor, dict[str, Tensor]]:
        predictions, logs = self._predict(view, self._seen(view))
        alignment, count = view.z.new_zeros(()), view.z.new_zeros(())
        for weight, prediction in zip(self.weights.values(), predictions, strict=True):
            summed, frames = self._log_likelihood(view, prediction)
            # Per sequence: a mean over the batch of sums over frames, and how many frames that is.
            alignment = alignment + weight * summed / len(view.z)
            count = count + weight * frames / len(view.z)
        if not bool(count > 0):
            raise VidsslError("ldm: no frame to predict; times must increase from frame to frame")
        loss = -alignment
        if self.entropy != "stopgrad":
            entropy = self.frame_entropy(view.z, view.valid, _noise_scale(predictions[0], view.valid))
            loss = loss - self.entropy_weight * count * entropy
            logs["entropy"] = entropy.detach()
        logs["alignment"] = alignment.detach()
        logs["alignment_per_dim"] = alignment.detach() / (count * self.dim)
        return loss / count if self.reduction == "mean" else loss, logs

    def _seen(self, view: _View) -> Tensor | None:
        """(B, T) which frames the predictor is shown; None: all."""
        if not (self.training and self.drop_frames):
            return view.valid
        draw = torch.rand(view.z.shape[:2], generator=self.generator)
        kept = (draw >= self.drop_frames).to(view.z.device)
        return kept if view.valid is None else kept & view.valid

    def _predict(self, view: _View, seen: Tensor | None) -> tuple[list[_Prediction], dict[str, Tensor]]:
        """A prediction for every lag, and logs."""
        if isinstance(self.model, RecurrentPredictor):
            ahead = self.model.multi_step(view.z, max(self.weights), seen)
            predictions = [_Prediction(*ahead[lag - 1], lag) for lag in self.weights]
            return predictions, self._logs(view, self.model.cov())
        mask = None if seen is None else seen[..., None]
        model = self.model.matrices(view.times, view.R)
        result = kalman_filter(
            view.z,
            **model._asdict(),
            mask=mask,
            predict_first=self.model.predict_first,
            method=self.method,
        )
        logs = self._logs(view, model.R)
        logs["gain"] = _mean_gain(result.pred_cov, result.innovation_cov)
        predicted = {1: _Prediction(result.pred_mean[..., : self.dim], result.innovation_cov, 0)}
        if max(self.weights) > 1:
            forecasts = multi_step(result, max(self.weights), model)
            for lag, forecast in enumerate(forecasts, start=1):
                predicted.setdefault(lag, _Prediction(forecast.obs_mean, forecast.obs_cov, lag))
        return [predicted[lag] for lag in self.weights], logs

    def _log_likelihood(self, view: _View, prediction: _Prediction) -> tuple[Tensor, Tensor]:
        """Summed over all real frames that are predicted, and their number."""
        skipped = max(self.burn_in - prediction.first, 0)
        first = prediction.first + skipped
        innovation = view.target[:, first:] - prediction.mean[:, skipped:]
        if innovation.shape[1] == 0:
            raise VidsslError(
                f"ldm: burn_in={self.burn_in} leaves none of {view.z.shape[1]} frames to predict"
            )
        cov = prediction.cov if prediction.cov.ndim == 2 else prediction.cov[..., skipped:, :, :]
        mask = None if view.valid is None else view.valid[:, first:]
        log_likelihood = innovation_log_likelihood(innovation, cov, None if mask is None else mask[..., None])
        frames = innovation[..., 0].numel() if mask is None else mask.sum()
        return log_likelihood.sum(), innovation.new_tensor(float(frames))

    # -- logs --------------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def _logs(self, view: _View, R: Tensor | None) -> dict[str, Tensor]:
        rows = view.z.flatten(0, 1) if view.valid is None else view.z[view.valid]
        logs = {"std": rows.std(dim=0).mean()}
        if R is not None and self.model.learns_scale:
            log_det = torch.linalg.slogdet(R).logabsdet
            logs["log_det_R"] = (
                log_det if view.valid is None or log_det.ndim < 2 else log_det[view.valid]
            ).mean()
        return logs


def _real_frames(times: Tensor) -> Tensor | None:
    """(B, T) bool, which frames lie after all earlier ones; None when all do."""
    later = times[:, 1:] > times.cummax(dim=1).values[:, :-1]
    if bool(later.all()):
        return None
    return torch.cat([torch.ones_like(later[:, :1]), later], dim=1)


def _noise_scale(prediction: _Prediction, valid: Tensor | None) -> Tensor:
    """Standard deviation that is predicted for real frames, without gradient."""
    variance = prediction.cov.detach().diagonal(dim1=-2, dim2=-1)
    if valid is not None and variance.ndim == 3:
        variance = variance[valid[:, prediction.first :]]
    return variance.mean().sqrt()


@torch.no_grad()
def _mean_gain(pred_cov: Tensor, innovation_cov: Tensor) -> Tensor:
    """Mean modulus of the entries of K = P^- Cᵀ S^{-1}, C = [I 0]."""
    if pred_cov.stride(0) == 0 and innovation_cov.stride(0) == 0:
        pred_cov, innovation_cov = pred_cov[0], innovation_cov[0]
    gain: Tensor = torch.linalg.solve(innovation_cov, pred_cov[..., : innovation_cov.shape[-1], :])
    return gain.abs().mean()
