"""A rotating model, latents drawn from it, and what a figure must be."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from vidssl.dynamics.ssm import LinearGaussianSSM
from vidssl.evaluation.dynamics.latents import LatentSequences

RADIUS, ANGLE, STEP = 0.97, 0.35, 0.1


def rotating_model(process_noise: float = 0.3) -> LinearGaussianSSM:
    """x_t = 0.97 Rot(0.35) x_{t-1} + w, z_t = x_t + v, R = I: two dimensions, all seen."""
    model = LinearGaussianSSM(2, 2, generator=torch.Generator().manual_seed(0)).double()
    rotation = [[math.cos(ANGLE), -math.sin(ANGLE)], [math.sin(ANGLE), math.cos(ANGLE)]]
    with torch.no_grad():
        model.transition.A.copy_(RADIUS * torch.tensor(rotation, dtype=torch.float64))
        model.process_noise.raw.fill_(math.log(process_noise))
    return model.requires_grad_(False)


def simulate(videos: int = 60, steps: int = 40, process_noise: float = 0.3, seed: int = 1) -> LatentSequences:
    """Latents drawn from that model, in its stationary state from the first step on."""
    rng = np.random.default_rng(seed)
    A = rotating_model().transition.A.numpy()
    # Rotations commute with the identity: the stationary covariance is q / (1 - r²) I.
    x = rng.normal(size=(videos, 2)) * math.sqrt(process_noise / (1 - RADIUS**2))
    z = np.empty((videos, steps, 2))
    for t in range(steps):
        x = x @ A.T + math.sqrt(process_noise) * rng.normal(size=x.shape)
        z[:, t] = x + rng.normal(size=x.shape)
    times = torch.arange(steps).double() * STEP
    names = tuple(f"turning/{i}.mp4" for i in range(videos))
    return LatentSequences(
        torch.from_numpy(z), torch.ones(videos, steps, dtype=torch.bool), times.expand(videos, -1), names
    )


def assert_picture(file: Path) -> None:
    """A PNG that decodes, of some size, with some ink and several colours."""
    with Image.open(file) as image:
        assert image.format == "PNG" and min(image.size) > 400
        pixels = np.asarray(image.convert("RGB"))
    assert 0.01 < (pixels < 250).any(-1).mean() < 0.9
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
