"""The models of motion that latent distribution matching trains, from its options."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError, check_choice
from vidssl.objectives.ldm.frame_entropy import SCALE_FREE

MotionModel: TypeAlias = LinearGaussianSSM | RecurrentPredictor

DYNAMICS = ("kalman", "rnn")
# How much faster than the encoder the model learns, as published for either predictor.
KALMAN_RATE, RNN_RATE = 100.0, 30.0
# Where the defaults of `LDM` are not those of the released code.
PUBLISHED: dict[str, Any] = {
    "observation_noise": "identity",
    "calibrate": False,
    "clip_quantile": 0.9,
    "other_clips": False,
}
RNN_NOISES = {"identity": "fixed", "diag": "learned"}


def motion_model(
    dim: int,
    dynamics: str,
    generator: torch.Generator,
    *,
    state_dim: int | None,
    transition: str,
    process_noise: str,
    observation_noise: str,
    scale: str,
    entropy: str,
    time_unit: float,
    hidden_dim: int,
) -> MotionModel:
    """A `LinearGaussianSSM` or `RecurrentPredictor` of rows of `dim` numbers; options as in `LDM`.

    Raises:
        VidsslError: for options that are unknown or of the other model.
    """
    check_choice("dynamics", dynamics, DYNAMICS)
    check_choice("scale", scale, ("auto", "fixed", "learned"))
    noisy = observation_noise == "input"
    if noisy and dim % 2:
        raise VidsslError(f"observation_noise='input': needs an even number of dimensions, got {dim}")
    latent_dim = dim // 2 if noisy else dim
    held = observation_noise == "identity" and entropy not in SCALE_FREE
    if dynamics == "kalman":
        return LinearGaussianSSM(
            latent_dim if state_dim is None else int(state_dim),
            latent_dim,
            transition,
            process_noise,
            observation_noise,
            joint_scale=scale == "learned" or (scale == "auto" and not held),
            time_unit=time_unit,
            generator=generator,
        )
    if (state_dim, transition, process_noise) != (None, "near_identity", "diag") or scale == "learned":
        raise VidsslError(
            "dynamics='rnn': state_dim, transition, process_noise and scale='learned' are for 'kalman'"
        )
    if observation_noise not in RNN_NOISES:
        raise VidsslError(f"dynamics='rnn': observation_noise is one of {', '.join(RNN_NOISES)}")
    layers, variance = (hidden_dim, hidden_dim), RNN_NOISES[observation_noise]
    return RecurrentPredictor(latent_dim, hidden_dim, layers, variance, generator=generator)


def published_rate(model: MotionModel) -> float:
    """How much faster than the encoder a model is to learn."""
    return RNN_RATE if isinstance(model, RecurrentPredictor) else KALMAN_RATE
