"""What a model of motion predicts of the frames of a view, and how likely it finds them."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics.forecast import multi_step
from vidssl.dynamics.kalman import innovation_log_likelihood, kalman_filter
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.errors import VidsslError
from vidssl.objectives.ldm.models import MotionModel
from vidssl.objectives.ldm.views import LatentView


class Prediction(NamedTuple):
    """Gaussians (B, T - first, m), (…, m, m) for the frames from `first` on."""

    mean: Tensor
    cov: Tensor
    first: int


def predict(
    model: MotionModel, view: LatentView, seen: Tensor | None, lags: Collection[int], method: str
) -> tuple[list[Prediction], dict[str, Tensor]]:
    """A prediction for every lag, and logs.

    Args:
        model: of the latents.
        view: whose frames are predicted.
        seen: (B, T) which of them the model is shown; None: all.
        lags: frames ahead.
        method: of `kalman_filter`.
    """
    if isinstance(model, RecurrentPredictor):
        ahead = model.multi_step(view.z, max(lags), seen)
        return [Prediction(*ahead[lag - 1], lag) for lag in lags], _logs(model, view, model.cov())
    matrices = model.matrices(view.times if model.continuous else None, view.R)
    result = kalman_filter(
        view.z,
        **matrices._asdict(),
        mask=None if seen is None else seen[..., None],
        predict_first=model.predict_first,
        method=method,
    )
    logs = _logs(model, view, matrices.R)
    logs["gain"] = _mean_gain(result.pred_cov, result.innovation_cov)
    predicted = {1: Prediction(result.pred_mean[..., : model.latent_dim], result.innovation_cov, 0)}
    if max(lags) > 1:
        for lag, forecast in enumerate(multi_step(result, max(lags), matrices), start=1):
            predicted.setdefault(lag, Prediction(forecast.obs_mean, forecast.obs_cov, lag))
    return [predicted[lag] for lag in lags], logs


def log_likelihood(view: LatentView, prediction: Prediction, burn_in: int) -> tuple[Tensor, Tensor]:
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
    summed = innovation_log_likelihood(innovation, cov, None if mask is None else mask[..., None]).sum()
    frames = innovation[..., 0].numel() if mask is None else mask.sum()
    return summed, innovation.new_tensor(float(frames))


def noise_scale(prediction: Prediction, valid: Tensor | None) -> Tensor:
    """Standard deviation that is predicted for real frames, without gradient."""
    variance = prediction.cov.detach().diagonal(dim1=-2, dim2=-1)
    if valid is not None and variance.ndim == 3:
        variance = variance[valid[:, prediction.first :]]
    return variance.mean().sqrt()


@torch.no_grad()
def _logs(model: MotionModel, view: LatentView, R: Tensor) -> dict[str, Tensor]:
    rows = view.z.flatten(0, 1) if view.valid is None else view.z[view.valid]
    logs = {"std": rows.std(dim=0).mean()}
    if model.learns_scale:
        log_det = torch.linalg.slogdet(R).logabsdet
        logs["log_det_R"] = (
            log_det if view.valid is None or log_det.ndim < 2 else log_det[view.valid]
        ).mean()
    return logs


@torch.no_grad()
def _mean_gain(pred_cov: Tensor, innovation_cov: Tensor) -> Tensor:
    """Mean modulus of the entries of K = P^- Cᵀ S^{-1}, C = [I 0]."""
    if pred_cov.stride(0) == 0 and innovation_cov.stride(0) == 0:
        pred_cov, innovation_cov = pred_cov[0], innovation_cov[0]
    gain: Tensor = torch.linalg.solve(innovation_cov, pred_cov[..., : innovation_cov.shape[-1], :])
    return gain.abs().mean()
