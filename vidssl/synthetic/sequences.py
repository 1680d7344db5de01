"""Sequences whose true latents are known, on which identifiability is measured.

    figure_eight, square, noisy_circle     a blob on a known path, seen as a noisy frame of 10 x 10
    wobbly                                 a blob on a wobbling orbit with process noise, seen as a swirled frame
    random_step                            rotating Gaussian signal beside fresh nuisance, through a random network
    rotations                              a linear system, to be seen through a random injective network

The first four are those of Mikulasch & Zenke 2026 (arXiv 2605.03517), the fifth of their follow-up (arXiv 2609.37789),
the last of Laiz, Schmidt & Schneider 2025 (arXiv 2410.14673). Every function is a pure function of its arguments and of
the generator handed in; noise is given as a variance throughout, as in those papers' settings.

    >>> toy = wobbly(128, generator=torch.Generator().manual_seed(0))
    >>> toy.observations.shape, toy.latents.shape      # (128, 100, 10, 10), (128, 100, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from vidssl.synthetic.blobs import blob_frames, swirl, with_noise
from vidssl.synthetic.mixing import Mixing

CIRCLE_STEP = 2 * math.pi * 0.05
SQUARE_STEP, SQUARE_PERIOD = 0.2, 4.0
WOBBLES, WOBBLE_SIZE, WOBBLE_PHASE, WOBBLE_STEP = 4, 0.5, -3 * math.pi / 8, 0.3


class ToySequences(NamedTuple):
    """N sequences of T steps.

    Attributes:
        observations: (N, T, …) float32, frames (H, W) or vectors.
        latents: (N, T, d) float32, what should be found up to an affine map.
    """

    observations: Tensor
    latents: Tensor


# -- a blob that moves -------------------------------------------------------------------------------------------------


def figure_eight(
    sequences: int, steps: int = 100, variance: float = 0.01, generator: Generator | None = None
) -> ToySequences:
    """(cos θ, sin θ cos θ) with θ = 0.1 π t: the same clean frames in every sequence, with fresh pixel noise."""
    theta = 0.1 * math.pi * torch.arange(steps, dtype=torch.float64)
    path = torch.stack([theta.cos(), theta.sin() * theta.cos()], dim=-1).float()
    return _same_path(sequences, path, path, variance, generator)


def square(
    sequences: int, steps: int = 100, variance: float = 0.1, generator: Generator | None = None
) -> ToySequences:
    """Along the edges of a square, 5 steps an edge, starting in the middle of the first.

    The latents are the sinusoid (cos, sin)(0.1 π t) of the same period: the linear system that the motion contains.
    """
    phase = 2 * math.pi * SQUARE_STEP / SQUARE_PERIOD * torch.arange(steps, dtype=torch.float64)
    latents = torch.stack([phase.cos(), phase.sin()], dim=-1).float()
    return _same_path(sequences, square_path(steps), latents, variance, generator)


def _same_path(
    sequences: int, path: Tensor, latents: Tensor, variance: float, generator: Generator | None
) -> ToySequences:
    """The same clean frames in every sequence, with fresh pixel noise."""
    frames = blob_frames(path).expand(sequences, -1, -1, -1)
    return ToySequences(with_noise(frames, variance, generator), latents.expand(sequences, -1, -1))


def square_path(steps: int) -> Tensor:
    """(T, 2) corners (1, -1), (1, 1), (-1, 1), (-1, -1); step 0 alone is at (1, 0), off the regular grid."""
    # In fifths of an edge, so that no rounding decides on which edge a step lies.
    per_edge = round(1 / SQUARE_STEP)
    t = torch.arange(steps)
    s = 2 * (t % per_edge) / per_edge - 1
    one = torch.ones_like(s)
    edges = torch.stack([torch.stack(e, dim=-1) for e in ((one, s), (-s, one), (-one, -s), (s, -one))], dim=0)
    path = edges[t // per_edge % 4, t]
    path[0] = torch.tensor([1.0, 0.0])
    return path


def noisy_circle(
    sequences: int, steps: int = 100, process_variance: float = 0.05, generator: Generator | None = None
) -> ToySequences:
    """A blob on a `circle_path` under pixel noise of changing strength."""
    path, variance = circle_path(sequences, steps, process_variance, generator)
    return ToySequences(with_noise(blob_frames(path), variance[..., None, None], generator), path)


def circle_path(
    sequences: int, steps: int = 100, process_variance: float = 0.05, generator: Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Steps of 0.1 π along the unit circle from (1, 0), kicked and put back onto it, and how noisy they are seen.

    Returns:
        (N, T, 2) positions, and (N, T) variances of pixel noise: max(0, Exp(mean 0.3) - 0.09), and 0.3 at step 0.
    """
    turn = _rotation(2, (0, 1), CIRCLE_STEP)
    kicks = math.sqrt(process_variance) * torch.randn(sequences, steps, 2, generator=generator)
    path = torch.empty(sequences, steps, 2)
    path[:, 0] = torch.tensor([1.0, 0.0])
    for t in range(1, steps):
        path[:, t] = torch.nn.functional.normalize(path[:, t - 1] @ turn.T + kicks[:, t], dim=-1)
    draws = torch.empty(sequences, steps).exponential_(generator=generator)
    variance = (0.3 * draws - 0.09).clamp_min(0)
    variance[:, 0] = 0.3
    return path, variance


def wobbly(
    sequences: int, steps: int = 100, process_variance: float = 0.1, generator: Generator | None = None
) -> ToySequences:
    """An orbit whose radius swings four times a turn, with process noise; frames are swirled and have no pixel noise.

    Nothing draws the radius back, so it wanders. A blob that leaves the frame is shown at its edge (see `blob_frames`):
    there the true position cannot be read off the frame.
    """
    angle = 2 * math.pi * torch.rand(sequences, generator=generator)
    kicks = math.sqrt(process_variance) * torch.randn(sequences, steps, 2, generator=generator)
    path = torch.empty(sequences, steps, 2)
    path[:, 0] = torch.stack([angle.cos(), angle.sin()], dim=-1)
    for t in range(1, steps):
        path[:, t] = runge_kutta_step(wobble_velocity, path[:, t - 1], WOBBLE_STEP) + kicks[:, t]
    return ToySequences(swirl(blob_frames(path), strength=10, radius=200), path)


def wobble_velocity(position: Tensor) -> Tensor:
    """ṙ = a k cos(k (θ - θ_0)), θ̇ = 1, in Cartesian coordinates (…, 2)."""
    x, y = position.unbind(-1)
    radius, theta = torch.hypot(x, y), torch.atan2(y, x)
    outward = WOBBLE_SIZE * WOBBLES * torch.cos(WOBBLES * (theta - WOBBLE_PHASE))
    cos, sin = theta.cos(), theta.sin()
    return torch.stack([outward * cos - radius * sin, outward * sin + radius * cos], dim=-1)


def runge_kutta_step(velocity: Callable[[Tensor], Tensor], x: Tensor, dt: float) -> Tensor:
    """One step of the classical fourth-order scheme."""
    k1 = velocity(x)
    k2 = velocity(x + dt / 2 * k1)
    k3 = velocity(x + dt / 2 * k2)
    k4 = velocity(x + dt * k3)
    return x + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


# -- signal beside nuisance --------------------------------------------------------------------------------------------


def random_step(
    sequences: int,
    mixing: Mixing,
    rotation: Tensor,
    nuisance: int,
    steps: int = 5,
    persistence: float = 0.9,
    generator: Generator | None = None,
) -> ToySequences:
    """s_t = ρ R s_{t-1} + sqrt(1 - ρ²) ε, stationary with unit variance, beside nuisance N(0, I) fresh every step.

    Args:
        mixing: of d + nuisance dimensions, see `nuisance_mixing`.
        rotation: (d, d) orthogonal R, see `random_orthogonal`.
    """
    d = len(rotation)
    signal = torch.randn(sequences, steps, d, generator=generator)
    for t in range(1, steps):
        signal[:, t] *= math.sqrt(1 - persistence**2)
        signal[:, t] += persistence * signal[:, t - 1] @ rotation.T
    noise = torch.randn(sequences, steps, nuisance, generator=generator)
    return ToySequences(mixing(torch.cat([signal, noise], dim=-1)), signal)


def random_orthogonal(dim: int, seed: int = 1729) -> Tensor:
    """(d, d) Q-factor of a Gaussian matrix drawn with NumPy from `seed`."""
    factor = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    return torch.from_numpy(factor).float()


# -- dynamical systems -------------------------------------------------------------------------------------------------


def rotations(
    trials: int, steps: int, A: Tensor, noise: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """(N, T, d) of x_t = A x_{t-1} + noise · ε, x_0 uniform on the unit sphere; `noise` is a standard deviation."""
    x = noise * torch.randn(trials, steps, len(A), generator=generator)
    start = torch.randn(trials, len(A), generator=generator)
    x[:, 0] = torch.nn.functional.normalize(start, dim=-1)
    # The published process also switches between rotations; its draws are made, so that those after it stay the same.
    torch.randint(1, 2, (trials, steps), generator=generator)
    torch.rand(trials, steps, generator=generator)
    torch.randint(0, 1, (trials,), generator=generator)
    for t in range(1, steps):
        x[:, t] += x[:, t - 1] @ A.T
    return x


def random_rotation(dim: int, degrees: float = 5.0, generator: Generator | None = None) -> Tensor:
    """(d, d) product of turns by +-degrees in all d (d - 1) / 2 coordinate planes."""
    A = torch.eye(dim)
    for plane in combinations(range(dim), 2):
        sign = 2 * int(torch.randint(0, 2, (), generator=generator)) - 1
        A = _rotation(dim, plane, sign * math.radians(degrees)) @ A
    return A


def _rotation(dim: int, plane: tuple[int, int], radians: float) -> Tensor:
    i, j = plane
    R = torch.eye(dim)
    R[i, i] = R[j, j] = math.cos(radians)
    R[i, j], R[j, i] = -math.sin(radians), math.sin(radians)
    return R
