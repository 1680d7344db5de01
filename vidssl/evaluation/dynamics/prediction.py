"""What a model says of the latents to come: a Gaussian for every horizon and moment."""

from __future__ import annotations

from vidssl.dynamics.recurrent import GaussianPrediction, RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM, input_noise
from vidssl.errors import VidsslError
from vidssl.evaluation.dynamics.latents import LatentSequences

Model = LinearGaussianSSM | RecurrentPredictor


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
