"""Sequences whose true latents are known, on which identifiability is measured.

    figure_eight, square, noisy_circle     a blob on a known path, seen as a noisy frame of 10 x 10
    wobbly                                 a blob on a wobbling orbit with process noise, seen as a swirled frame
    random_step                            rotating Gaussian signal beside fresh nuisance, through a random network
    rotations, switching_rotations, lorenz dynamical systems, seen through a random injective network

The first four are those of Mikulasch & Zenke 2026 (arXiv 2605.03517), the fifth of their follow-up (arXiv 2609.37789),
the last of Laiz, Schmidt & Schneider 2025 (arXiv 2410.14673). Every function is a pure function of its arguments and of
the generator handed in; noise is given as a variance throughout, as in those papers' settings.

    >>> toy = wobbly(128, generator=torch.Generator().manual_seed(0))
    >>> toy.observations.shape, toy.latents.shape      # (128, 100, 10, 10), (128, 100, 2)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from vidssl.errors import VidsslError

FRAME_SIZE = 10
# The frame shows the square from -3 to 3.
HALF_WIDTH = 3.0
CIRCLE_STEP = 2 * math.pi * 0.05
SQUARE_STEP, SQUARE_PERIOD = 0.2, 4.0
WOBBLES, WOBBLE_SIZE, WOBBLE_PHASE, WOBBLE_STEP = 4, 0.5, -3 * math.pi / 8, 0.3
# Radius at which the swirl of scikit-image has decayed to a thousandth, in its own unit.
SWIRL_DECAY = math.log(2) / 5
LORENZ = (10.0, 28.0, 8 / 3)


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
    frames = blob_frames(path).expand(sequences, -1, -1, -1)
    return ToySequences(with_noise(frames, variance, generator), path.expand(sequences, -1, -1))


def square(
    sequences: int, steps: int = 100, variance: float = 0.1, generator: Generator | None = None
) -> ToySequences:
    """Along the edges of a square, 5 steps an edge, starting in the middle of the first.

    The latents are the sinusoid (cos, sin)(0.1 π t) of the same period: the linear system that the motion contains.
    """
    frames = blob_frames(square_path(steps)).expand(sequences, -1, -1, -1)
    phase = 2 * math.pi * SQUARE_STEP / SQUARE_PERIOD * torch.arange(steps, dtype=torch.float64)
    latents = torch.stack([phase.cos(), phase.sin()], dim=-1).float()
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


def blob_frames(position: Tensor, size: int = FRAME_SIZE) -> Tensor:
    """Gaussian blobs of one pixel's width: (…, 2) positions to (…, size, size).

    The first coordinate runs along the rows, from -3 at row 0; the centre is kept inside the frame.
    """
    centre = ((position + HALF_WIDTH) * size / (2 * HALF_WIDTH)).clamp(0, size - 1)
    grid = torch.arange(size, dtype=position.dtype, device=position.device)
    rows, columns = torch.exp(-0.5 * (grid - centre[..., None]).square()).unbind(-2)
    return rows[..., :, None] * columns[..., None, :]


def with_noise(frames: Tensor, variance: float | Tensor, generator: Generator | None = None) -> Tensor:
    """Independent Gaussian noise on every pixel; `variance` is a number or broadcasts to the frames."""
    noise = torch.randn(frames.shape, generator=generator, dtype=frames.dtype)
    return torch.addcmul(frames, noise, torch.as_tensor(variance, dtype=frames.dtype).sqrt())


def swirl(frames: Tensor, strength: float, radius: float) -> Tensor:
    """Turns every pixel (…, H, W) around the centre, the more the nearer it is: what scikit-image calls swirl.

    A pixel at distance ρ from (W/2, H/2) is read at an angle larger by strength · exp(-ρ / r), r = radius · log 2 / 5,
    by bilinear interpolation; what lies outside is mirrored, without repeating the edge.
    """
    height, width = frames.shape[-2:]
    y, x = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in (height, width)), indexing="ij")
    x, y = x - width / 2, y - height / 2
    rho = torch.hypot(x, y)
    theta = torch.atan2(y, x) + strength * torch.exp(-rho / (radius * SWIRL_DECAY))
    # Reading is linear in the frame: a matrix whose rows hold the bilinear weights of all pixels.
    rows = _bilinear(height / 2 + rho * theta.sin(), height)
    columns = _bilinear(width / 2 + rho * theta.cos(), width)
    read = (rows[..., :, None] * columns[..., None, :]).reshape(height * width, -1).to(frames)
    swirled: Tensor = frames.flatten(-2) @ read.T
    return swirled.reshape(frames.shape)


def _bilinear(x: Tensor, size: int) -> Tensor:
    """(…, size) weights of the pixels of one axis when it is read at x (…), mirrored at the centres of the end pixels."""
    folded = x.remainder(2 * (size - 1)) if size > 1 else torch.zeros_like(x)
    inside = torch.minimum(folded, 2 * (size - 1) - folded)
    return (1 - (inside[..., None] - torch.arange(size)).abs()).clamp_min(0)


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


class Mixing(NamedTuple):
    """A random network with leaky ReLUs between its layers; injective.

    Attributes:
        weights: (out, in) per layer.
        biases: (out,) per layer.
        slope: of the leaky ReLU for negative numbers.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    slope: float = 0.2
    # The last layer follows the one before it without a nonlinearity.
    linear_end: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        bent = len(self.weights) - 1 - self.linear_end
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight.T + bias
            if i < bent:
                x = torch.nn.functional.leaky_relu(x, self.slope)
        return x


def nuisance_mixing(dim: int, generator: Generator | None = None) -> Mixing:
    """Three affine layers to max(dim, 25), max(·, 50) and 100 outputs: orthonormal columns, biases 0.1 N(0, I)."""
    widths = [dim, max(dim, 25)]
    widths += [max(widths[-1], 50), 100]
    if dim > widths[-1]:
        raise VidsslError(f"nuisance_mixing: dim={dim}: at most {widths[-1]}, or it would not be injective")
    weights = [torch.linalg.qr(torch.randn(o, i, generator=generator))[0] for i, o in pairwise(widths)]
    biases = [0.1 * torch.randn(o, generator=generator) for o in widths[1:]]
    return Mixing(weights, biases)


# -- dynamical systems -------------------------------------------------------------------------------------------------


def rotations(
    trials: int, steps: int, A: Tensor, noise: float = 0.01, generator: Generator | None = None
) -> Tensor:
    """(N, T, d) of x_t = A x_{t-1} + noise · ε, x_0 uniform on the unit sphere; `noise` is a standard deviation."""
    return switching_rotations(trials, steps, A[None], noise, 0.0, generator)[0]


def switching_rotations(
    trials: int,
    steps: int,
    A: Tensor,
    noise: float = 1e-4,
    switch: float = 1e-4,
    generator: Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """The same with A (K, d, d) of K modes; before every step another mode takes over with probability `switch`.

    Returns:
        (N, T, d) states and (N, T) modes: entry t led from t - 1 into t.
    """
    modes, d, _ = A.shape
    x = noise * torch.randn(trials, steps, d, generator=generator)
    start = torch.randn(trials, d, generator=generator)
    x[:, 0] = torch.nn.functional.normalize(start, dim=-1)
    hops = torch.randint(1, max(modes, 2), (trials, steps), generator=generator)
    hops = hops * (torch.rand(trials, steps, generator=generator) < switch)
    hops[:, 0] = torch.randint(0, modes, (trials,), generator=generator)
    mode = hops.cumsum(dim=1) % modes
    for t in range(1, steps):
        if modes == 1:
            x[:, t] += x[:, t - 1] @ A[0].T
        else:
            x[:, t] += (A[mode[:, t]] @ x[:, t - 1, :, None])[..., 0]
    return x, mode


def random_rotation(dim: int, degrees: float = 5.0, generator: Generator | None = None) -> Tensor:
    """(d, d) product of turns by +-degrees in all d (d - 1) / 2 coordinate planes."""
    A = torch.eye(dim)
    for plane in combinations(range(dim), 2):
        sign = 2 * int(torch.randint(0, 2, (), generator=generator)) - 1
        A = _rotation(dim, plane, sign * math.radians(degrees)) @ A
    return A


def lorenz(
    trials: int, steps: int, dt: float = 0.01, noise: float = 0.001, generator: Generator | None = None
) -> Tensor:
    """(N, T, 3): Euler steps of the Lorenz system, each with noise of that standard deviation, from N(0, I)."""
    sigma, rho, beta = LORENZ
    x = noise * torch.randn(trials, steps, 3, generator=generator)
    x[:, 0] = torch.randn(trials, 3, generator=generator)
    for t in range(1, steps):
        a, b, c = x[:, t - 1].unbind(-1)
        velocity = torch.stack([sigma * (b - a), a * (rho - c) - b, a * b - beta * c], dim=-1)
        x[:, t] += x[:, t - 1] + dt * velocity
    return x


def injective_mixing(
    dim: int, outputs: int = 50, candidates: int = 10_000, generator: Generator | None = None
) -> Mixing:
    """Four well-conditioned square layers with leaky ReLUs between, then a linear map to `outputs`.

    Each square layer has U(-1, 1) entries with unit columns and is drawn anew until its condition number is among the
    best 0.1 % of `candidates` draws.
    """
    if outputs < dim:
        raise VidsslError(f"injective_mixing: outputs={outputs}: at least dim={dim}")

    def draw(n: int) -> Tensor:
        entries = 2 * torch.rand(n, dim, dim, generator=generator) - 1
        return torch.nn.functional.normalize(entries, dim=-2)

    limit = torch.linalg.cond(draw(candidates)).quantile(0.001)
    layers: list[Tensor] = []
    while len(layers) < 4:
        W = draw(1000)
        layers += W[torch.linalg.cond(W) <= limit].unbind()
    bound = 1 / math.sqrt(dim)
    lift = bound * (2 * torch.rand(outputs, dim, generator=generator) - 1)
    weights = [*layers[:4], lift]
    return Mixing(weights, [torch.zeros(len(W)) for W in weights], linear_end=True)


def _rotation(dim: int, plane: tuple[int, int], radians: float) -> Tensor:
    i, j = plane
    R = torch.eye(dim)
    R[i, i] = R[j, j] = math.cos(radians)
    R[i, j], R[j, i] = -math.sin(radians), math.sin(radians)
    return R
