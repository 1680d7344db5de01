"""What a model of motion predicts of the frames of a view, and how likely it finds them.

Sequences do not depend on each other, so each process does its own, and sums are added up over the processes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.distributed import all_sum
from vidssl.dynamics.forecast import multi_step
from vidssl.dynamics.kalman import innovation_log_likelihood, kalman_filter
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError
from vidssl.objectives.ldm.models import MotionModel
from vidssl.objectives.ldm.views import LatentView


class Prediction(NamedTuple):
    """Gaussians (B, T - first, m), (…, m, m) for the frames from `first` on."""

    mean: Tensor
    cov: Tensor
    first: int


class Alignment(NamedTuple):
    """Of the sequences of all processes, without gradient but for the first.

    Attributes:
        log_likelihood: () of all predicted frames, each horizon times its weight, summed.
        frames: () how many they are, in the same way.
        noise_scale: () standard deviation that is predicted of real frames.
        logs: means.
    """

    log_likelihood: Tensor
    frames: Tensor
    noise_scale: Tensor
    logs: dict[str, Tensor]


def calibrate(model: MotionModel, view: LatentView) -> None:
    """Start a model from the scale of a view's latents; see its `calibrate_`."""
    step = 1.0
    if isinstance(model, LinearGaussianSSM) and model.continuous and view.times is not None:
        ahead = view.times.diff(dim=1)
        step = float(ahead[ahead > 0].mean()) / model.time_unit
    model.calibrate_(view.z.detach(), view.valid, step)


def align(
    model: MotionModel,
    view: LatentView,
    seen: Tensor | None,
    weights: Mapping[int, float],
    burn_in: int,
    method: str,
    check: bool,
) -> Alignment:
    """How likely the model finds a view.

    Args:
        model: of the latents.
        view: the sequences of this process, whose frames are predicted.
        seen: (B, T) which of them the model is shown; None: all.
        weights: by how many frames ahead.
        burn_in: first frames that are not predicted.
        method, check: of `kalman_filter`.

    Raises:
        VidsslError: if there is no frame to predict, or for a model or latents out of bounds where that is checked.
    """
    predictions, logs = predict(model, view, seen, weights, method, check)
    sums = [log_likelihood(view, prediction, burn_in, check) for prediction in predictions]
    sums += [_variance(predictions[0], view.valid), *logs.values()]
    totals = all_sum(torch.stack([torch.stack(pair) for pair in sums]))
    likelihoods, variance, means = totals[: len(weights)], totals[len(weights)], totals[len(weights) + 1 :]
    alignment, frames = view.z.new_zeros(()), view.z.new_zeros(())
    for weight, (summed, count) in zip(weights.values(), likelihoods, strict=True):
        alignment, frames = alignment + weight * summed, frames + weight * count.detach()
    averages = (means[:, 0] / means[:, 1]).detach()
    noise_scale = (variance[0] / variance[1]).sqrt().detach()
    return Alignment(alignment, frames, noise_scale, dict(zip(logs, averages, strict=True)))


def predict(
    model: MotionModel,
    view: LatentView,
    seen: Tensor | None,
    lags: Collection[int],
    method: str,
    check: bool = True,
) -> tuple[list[Prediction], dict[str, tuple[Tensor, Tensor]]]:
    """A prediction for every lag, and what there is to log, as a sum and the number of its terms; arguments as in `align`."""
    if isinstance(model, RecurrentPredictor):
        ahead = model.multi_step(view.z, max(lags), seen)
        return [Prediction(*ahead[lag - 1], lag) for lag in lags], _noise_log(model, view, model.cov())
    matrices = model.matrices(view.times if model.continuous else None, view.R)
    result = kalman_filter(
        view.z,
        **matrices._asdict(),
        mask=None if seen is None else seen[..., None],
        predict_first=model.predict_first,
        method=method,
        check=check,
    )
    logs = _noise_log(model, view, matrices.R)
    gain = _mean_gain(result.pred_cov, result.innovation_cov)
    logs["gain"] = (len(view.z) * gain, gain.new_tensor(len(view.z)))
    predicted = {1: Prediction(result.pred_mean[..., : model.latent_dim], result.innovation_cov, 0)}
    if max(lags) > 1:
        for lag, forecast in enumerate(multi_step(result, max(lags), matrices, check), start=1):
            predicted.setdefault(lag, Prediction(forecast.obs_mean, forecast.obs_cov, lag))
    return [predicted[lag] for lag in lags], logs


def log_likelihood(
    view: LatentView, prediction: Prediction, burn_in: int, check: bool = True
) -> tuple[Tensor, Tensor]:
    """Summed over all real frames that are predicted, from frame `burn_in` on, and their number.

    Raises:
        VidsslError: if there is none.
    """
    skipped = max(burn_in - prediction.first, 0)
    first = prediction.first + skipped
    innovation = view.target[:, first:] - prediction.mean[:, skipped:]
    if innovation.shape[1] == 0:
        raise VidsslError(f"ldm: burn_in={burn_in} leaves none of {view.z.shape[1]} frames to predict")
    cov = prediction.cov if prediction.cov.ndim == 2 else prediction.cov[..., skipped:, :, :]
    mask = None if view.valid is None else view.valid[:, first:]
    summed = innovation_log_likelihood(
        innovation, cov, None if mask is None else mask[..., None], check
    ).sum()
    frames = innovation.new_tensor(innovation[..., 0].numel()) if mask is None else mask.sum().to(summed)
    return summed, frames


@torch.no_grad()
def _variance(prediction: Prediction, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Summed over the dimensions of real frames, and how many these are."""
    variance = prediction.cov.diagonal(dim1=-2, dim2=-1)
    if valid is None or variance.ndim < 3:
        batch = len(prediction.mean) if variance.ndim < 3 else 1
        return batch * variance.sum(), variance.new_tensor(batch * variance.numel())
    real = valid[:, prediction.first :, None].to(variance.dtype)
    return (variance * real).sum(), variance.shape[-1] * real.sum()


@torch.no_grad()
def _noise_log(model: MotionModel, view: LatentView, R: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    if not model.learns_scale:
        return {}
    log_det = torch.linalg.slogdet(R).logabsdet
    real = torch.ones_like(view.z[..., 0]) if view.valid is None else view.valid.to(log_det.dtype)
    return {"log_det_R": ((log_det * real).sum(), real.sum())}


@torch.no_grad()
def _mean_gain(pred_cov: Tensor, innovation_cov: Tensor) -> Tensor:
    """Mean modulus of the entries of K = P^- Cᵀ S^{-1}, C = [I 0]."""
    if pred_cov.stride(0) == 0 and innovation_cov.stride(0) == 0:
        pred_cov, innovation_cov = pred_cov[0], innovation_cov[0]
    # Without `solve`, which asks the device whether it succeeded.
    factor = torch.linalg.cholesky_ex(innovation_cov)[0]
    gain: Tensor = torch.cholesky_solve(pred_cov[..., : innovation_cov.shape[-1], :], factor)
    return gain.abs().mean()
