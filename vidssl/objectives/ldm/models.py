"""The models of motion that latent distribution matching trains, from its options."""

from __future__ import annotations

from typing import TypeAlias

import torch

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.errors import VidsslError, check_choice

MotionModel: TypeAlias = LinearGaussianSSM | RecurrentPredictor

DYNAMICS = ("kalman", "rnn")
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
    if dynamics == "kalman":
        return LinearGaussianSSM(
            latent_dim if state_dim is None else int(state_dim),
            latent_dim,
            transition,
            process_noise,
            observation_noise,
            joint_scale=scale == "learned" or (scale == "auto" and entropy == "stopgrad"),
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
