"""The networks and models that scripts/identifiability.py trains.

`released` is what the authors' code trains, every setting stated, so that no default of the package reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from vidssl.dynamics.kalman import StateSpace
from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.objectives.ldm.objective import LDM

# What of the objective the published losses fix, whatever the package's defaults are.
PUBLISHED_LOSS: dict[str, Any] = {
    "entropy_weight": 1.0, "pool": "batch_time", "target": "student", "horizon": 1, "horizon_decay": 1.0, "lag": 1,
    "burn_in": 0, "drop_frames": 0.0, "neighbours": 3, "clip_quantile": 0.9, "max_rows": 2048,
    "other_clips": False, "calibrate": False, "memory": 0.0, "reduction": "sum", "method": "joseph",
}  # fmt: skip
KALMAN: dict[str, Any] = {
    "transition": "near_identity", "process_noise": "diag", "observation_noise": "identity", "scale": "fixed",
}  # fmt: skip

# -- encoders ----------------------------------------------------------------------------------------------------------


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])


class PixelVariance(nn.Module):
    """(…, pixels) to (…, m): the raw numbers from which `input_noise` makes how noisy a frame is seen to be.

    As released: pixels are weighted, their squared distances from their mean are summed by two layers of weights that
    are made positive, and a last ReLU keeps the variance positive. At first it is the variance of the pixels.
    """

    def __init__(self, pixels: int, latents: int) -> None:
        super().__init__()
        self.pixel = nn.Parameter(torch.ones(pixels))
        self.hidden, self.hidden_bias = (
            nn.Parameter(torch.ones(pixels, pixels) / pixels),
            nn.Parameter(torch.zeros(pixels)),
        )
        self.out, self.out_bias = (
            nn.Parameter(torch.ones(latents, pixels) / pixels),
            nn.Parameter(torch.zeros(latents)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return noise_to_raw(self.variance(x))

    def variance(self, x: Tensor) -> Tensor:
        weighted = self.pixel * x
        spread = (weighted - weighted.mean(dim=-1, keepdim=True)).square()
        hidden = functional.linear(spread, self.hidden.abs(), self.hidden_bias).relu()
        return functional.linear(hidden, self.out.abs(), self.out_bias).relu()


def noise_to_raw(variance: Tensor) -> Tensor:
    """The inverse of `input_noise` but for its floor: softplus(1 + raw) with beta = 10 is `variance`, at least 1e-5."""
    variance = variance.clamp_min(1e-5)
    return variance + torch.log(-torch.expm1(-10 * variance)) / 10 - 1


class WithNoise(nn.Module):
    """Latents and how noisy their frame is, side by side: (…, 2m) for observation_noise="input"."""

    def __init__(self, latents: nn.Sequential, noise: nn.Module) -> None:
        super().__init__()
        self.latents, self.noise = latents, noise

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.latents(x), self.noise(x)], dim=-1)


# -- models ------------------------------------------------------------------------------------------------------------


class ReleasedKalman(LinearGaussianSSM):
    """Q and R share a learned factor that starts at e, also where R comes from the frame; the prior is N(0, I) always."""

    def __init__(self, state: int, latents: int, R: str, generator: Generator) -> None:
        super().__init__(
            state, latents, "near_identity", Q="diag", R=R, bias="fixed_point", joint_scale=True,
            predict_first=True, generator=generator,
        )  # fmt: skip
        assert self.log_scale is not None
        nn.init.ones_(self.log_scale)

    def matrices(self, times: Tensor | None = None, R: Tensor | None = None) -> StateSpace:
        model = super().matrices(times, R)
        assert self.log_scale is not None
        scaled = model.R if R is None else self.log_scale.exp() * R
        return model._replace(R=scaled, P0=torch.eye(self.state_dim, dtype=model.P0.dtype))


class KnownRotation(LinearGaussianSSM):
    """A is given and not learned; Q and R, diagonal with a common factor, are."""

    def __init__(self, A: Tensor, generator: Generator) -> None:
        n = len(A)
        super().__init__(n, n, "near_identity", Q="diag", R="diag", joint_scale=True, generator=generator)
        given = self.transition.A
        assert isinstance(given, nn.Parameter)
        given.data.copy_(A)
        given.requires_grad_(False)


def released(dim: int, entropy: str, state: int, R: str = "identity") -> Callable[[int], LDM]:
    """`dim` of the rows: twice that of the latents where the second half says how noisy the frame is."""
    latents = dim // 2 if R == "input" else dim

    def model(generator: Generator) -> ReleasedKalman:
        return ReleasedKalman(state, latents, R, generator)

    # With an R per frame covariances are those of every sequence: in parallel over time they take half as long.
    loss = {**PUBLISHED_LOSS, "method": "scan" if R == "input" else "joseph"}
    return lambda seed: LDM(dim, model, entropy, seed=seed, **loss)


def kalman(dim: int, entropy: str, **options: Any) -> Callable[[int], LDM]:
    return lambda seed: LDM(dim, "kalman", entropy, seed=seed, **{**PUBLISHED_LOSS, **KALMAN, **options})


def known_rotation(transition: Callable[[int], Tensor], entropy: str, **options: Any) -> Callable[[int], LDM]:
    """`transition` gives A of the data of a seed."""

    def build(seed: int) -> LDM:
        A = transition(seed)
        return LDM(
            len(A), lambda generator: KnownRotation(A, generator), entropy, seed=seed,
            **{**PUBLISHED_LOSS, **options},
        )  # fmt: skip

    return build


def recurrent(
    dim: int, entropy: str, head: Sequence[int], variance: float, **options: Any
) -> Callable[[int], LDM]:
    """An LSTM of 10 units, as published, in place of the package's default sizes."""

    def predictor(generator: Generator) -> RecurrentPredictor:
        # Dropped: the recorded runs drew their start values after these.
        RecurrentPredictor(dim, 64, (64, 64), generator=generator)
        return RecurrentPredictor(dim, 10, head, "fixed", variance, generator=generator)

    return lambda seed: LDM(dim, predictor, entropy, seed=seed, **{**PUBLISHED_LOSS, **options})
