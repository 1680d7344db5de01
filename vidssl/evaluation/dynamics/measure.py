"""What a model of motion is worth: its forecasts beside those that know no motion, and whether its doubts are right.

>>> dynamics = measure_dynamics(objective.model, sequences, horizon=8)
>>> dynamics.forecast.record()["ratio_to_persistence"]
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from vidssl.dynamics.recurrent import GaussianPrediction, RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.bootstrap import resample_counts
from vidssl.evaluation.dynamics.calibration import Calibration, calibrate
from vidssl.evaluation.dynamics.eigenvalues import Eigenvalue, step_eigenvalues
from vidssl.evaluation.dynamics.forecasts import ForecastErrors, forecast_errors
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.evaluation.dynamics.whiteness import Whiteness, measure_whiteness

Model = LinearGaussianSSM | RecurrentPredictor
# Latents seen before the first forecast that counts.
CONTEXT = 4


@dataclass(frozen=True)
class Dynamics:
    """Everything that the report shows.

    Attributes:
        z: (N, T, m) latents; `sequences.z` may hold their noise as well.
        predictions: 1 … H steps ahead.
        eigenvalues: largest modulus first; None for a model without any.
        whiteness: of the predictions that `calibration` is of; None where clips are too short for it.
    """

    sequences: LatentSequences
    z: Tensor
    predictions: list[GaussianPrediction]
    calibration: Calibration
    forecast: ForecastErrors
    eigenvalues: list[Eigenvalue] | None
    whiteness: Whiteness | None


@torch.no_grad()
def measure_dynamics(
    model: Model,
    sequences: LatentSequences,
    horizon: int = 8,
    *,
    lag: int = 1,
    context: int = CONTEXT,
    seed: int = 0,
) -> Dynamics:
    """Judge a model on sequences it was not fitted to.

    Args:
        model: of m dimensions.
        sequences: of m dimensions, or of 2m where the second half says how noisy a latent is (R="input").
        horizon: H, the longest forecast.
        lag: the forecast whose calibration is looked at: the nearest that the model was trained for.
        context: latents seen before the first forecast that counts.
        seed: of the resampling of videos.

    Raises:
        VidsslError: for a horizon or context that the sequences are too short for, or of another number of dimensions.
    """
    steps, m = sequences.z.shape[1], model.latent_dim
    if horizon < lag:
        raise VidsslError(f"horizon={horizon}: the model was trained to predict {lag} steps ahead")
    if not 1 <= horizon <= steps - context:
        raise VidsslError(
            f"horizon={horizon}: with {steps} latents of a video, {context} of them seen first, it must be from 1 to "
            f"{steps - context}"
        )
    noisy = isinstance(model, LinearGaussianSSM) and model.R == "input"
    width = 2 * m if noisy else m
    if sequences.z.shape[2] != width:
        raise VidsslError(f"latents have {sequences.z.shape[2]} dimensions, the model {width}")
    model = copy.deepcopy(model).double().cpu().eval()
    z = sequences.z[..., :m]
    predictions = predict_ahead(model, sequences, horizon)
    counted = [_counted(sequences.valid, h, context) for h in range(1, horizon + 1)]
    longest = longest_horizon(sequences.valid, context)
    if horizon > longest:
        give = f"a horizon of at most {longest}" if longest else "frames that lie further apart"
        raise VidsslError(
            f"horizon={horizon}: no video is long enough for {longest + 1} steps after {context} seen, frames that repeat left out; "
            f"give {give}, or other clips (frames, seconds, stride)"
        )
    resamples = resample_counts(len(z), torch.Generator().manual_seed(seed))
    judged = z, predictions[lag - 1], counted[lag - 1], lag, resamples
    calibration, whiteness = calibrate(*judged), measure_whiteness(*judged)
    forecast = forecast_errors(sequences, z, predictions, counted, resamples)
    eigenvalues = None
    if isinstance(model, LinearGaussianSSM):
        eigenvalues = step_eigenvalues(model, sequences.step_seconds)
    return Dynamics(sequences, z, predictions, calibration, forecast, eigenvalues, whiteness)


def predict_ahead(model: Model, sequences: LatentSequences, horizon: int) -> list[GaussianPrediction]:
    """Forecasts from every step, 1, 2, … `horizon` ahead.

    Args:
        sequences: of the m dimensions of the model, or of 2m where the second half says how noisy a latent is.

    Returns:
        Entry h - 1 has mean (N, T - h, m) and cov (N, T - h, m, m); entry t is of latent t + h, made at t.

    Raises:
        VidsslError: for forecasts that are not finite.
    """
    m, valid = model.latent_dim, sequences.valid
    z, raw = sequences.z[..., :m], sequences.z[..., m:]
    if isinstance(model, RecurrentPredictor):
        moments = [(x.mean, x.cov) for x in model.multi_step(z, horizon, valid)]
    else:
        R = input_noise(raw) if model.R == "input" else None
        times = sequences.times if model.continuous else None
        result = model.filter(z, R, None if bool(valid.all()) else valid[..., None], times)
        moments = [(x.obs_mean, x.obs_cov) for x in model.multi_step(result, horizon, R, times)]
    if not all(bool(mean.isfinite().all()) for mean, _ in moments):
        raise VidsslError("the model's predictions are not finite")
    return [GaussianPrediction(mean, cov.expand(*mean.shape, m)) for mean, cov in moments]


def longest_horizon(valid: Tensor, context: int) -> int:
    """The most steps ahead that, like all fewer, can be judged in some video; 0 where there are none.

    Args:
        valid: (N, T) bool, see `LatentSequences`. context: latents seen before the first forecast that counts.
    """
    steps = valid.shape[1]
    judged = (bool(_counted(valid, h, context).any()) for h in range(1, steps))
    return next((h for h, one in enumerate(judged) if not one), max(steps - 1, 0))


def _counted(valid: Tensor, h: int, context: int) -> Tensor:
    """(N, T - h) bool, which forecasts count: both ends are there, and `context` latents up to the first."""
    seen = valid.cumsum(dim=1) >= context
    return (valid & seen)[:, :-h] & valid[:, h:]
