"""The data of scripts/identifiability.py: sequences to train on, to fit a read-out on, to score it on.

The blob sequences are also scored on the one test video of which the authors publish the R²: their generator starts
from seed 1, so it can be drawn again here (`published_video`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from vidssl.synthetic import sequences as toy
from vidssl.synthetic.blobs import blob_frames, swirl, with_noise
from vidssl.synthetic.mixing import injective_mixing, nuisance_mixing

Sample = tuple[Tensor, Tensor]  # observations (N, T, D) and latents (N, T, d)


@dataclass(frozen=True)
class Data:
    """Where training batches come from, and what is probed: `fit` for the map onto the latents, `held_out` to score it.

    `published` holds the published test videos, and `video` says which of them the published number is of.
    """

    batches: Iterator[Tensor]
    fit: Sample
    held_out: Sample
    transition: Tensor | None = None  # of the true latents, where it is linear
    published: Sample | None = None
    video: int = 0


def flat(sequences: toy.ToySequences) -> Sample:
    return sequences.observations.flatten(2), sequences.latents


def epochs(sequences: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Indices of one batch after another, every epoch in a new order; what does not fill a batch is left out."""
    while True:
        order = torch.randperm(sequences, generator=generator)
        yield from order[: sequences - sequences % batch].split(batch)


def standardised(data: Data) -> Data:
    """Observations centred and of unit variance: of inputs much smaller a freshly initialised network is all but linear."""
    rows = data.fit[0].flatten(0, 1)
    mean, std = rows.mean(0), rows.std()

    def scaled(sample: Sample) -> Sample:
        return (sample[0] - mean) / std, sample[1]

    return replace(
        data,
        batches=((batch - mean) / std for batch in data.batches),
        fit=scaled(data.fit),
        held_out=scaled(data.held_out),
        published=None if data.published is None else scaled(data.published),
    )


# -- blobs -------------------------------------------------------------------------------------------------------------


def same_path(draw: Callable[..., toy.ToySequences]) -> Callable[[int, int], Data]:
    """Sequences that differ in their pixel noise alone, which is drawn anew for every batch."""

    def build(batch: int, seed: int) -> Data:
        g = Generator().manual_seed(seed)
        fit, held_out = flat(draw(64, generator=g)), flat(draw(64, generator=g))
        batches = (flat(draw(batch, generator=g))[0] for _ in iter(int, 1))
        return Data(batches, fit, held_out, published=published_same_path(draw), video=2)

    return build


def circle_data(batch: int, seed: int) -> Data:
    g = Generator().manual_seed(seed)
    path, variance = toy.circle_path(3200, generator=g)

    def noisy(rows: Tensor) -> Tensor:
        return with_noise(blob_frames(path[rows]), variance[rows][..., None, None], g).flatten(2)

    fit, held_out = flat(toy.noisy_circle(200, generator=g)), flat(toy.noisy_circle(200, generator=g))
    batches = (noisy(rows) for rows in epochs(len(path), batch, g))
    return Data(batches, fit, held_out, published=published_circle(), video=2)


def wobbly_data(batch: int, seed: int) -> Data:
    g = Generator().manual_seed(seed)
    frames, _ = flat(toy.wobbly(10_000, generator=g))
    fit, held_out = flat(toy.wobbly(200, generator=g)), flat(toy.wobbly(200, generator=g))
    batches = (frames[rows] for rows in epochs(len(frames), batch, g))
    return standardised(Data(batches, fit, held_out, published=published_wobbly(), video=0))


# -- the published test videos: seed 1, one draw after another ---------------------------------------------------------


def published_same_path(draw: Callable[..., toy.ToySequences]) -> Sample:
    """(8, 100, 100) figures of eight or squares. All clean frames are the same; the noise is drawn frame by frame."""
    clean = draw(1, variance=0.0)
    variance = {toy.figure_eight: 0.01, toy.square: 0.1}[draw]
    noise = _frame_noise(8, Generator().manual_seed(1))
    return (clean.observations + math.sqrt(variance) * noise).flatten(2), clean.latents.expand(8, -1, -1)


def published_circle() -> Sample:
    """(8, 100, 100); first all paths and noise levels, then the frames."""
    path, variance, g = published_circle_path()
    noise = _frame_noise(8, g)
    return (blob_frames(path) + variance[..., None, None].sqrt() * noise).flatten(2), path


def published_circle_path() -> tuple[Tensor, Tensor, Generator]:
    """(8, 100, 2) positions, (8, 100) variances of pixel noise, and the generator as it is then."""
    g, numpy = Generator().manual_seed(1), np.random.RandomState(1)
    turn = toy._rotation(2, (0, 1), toy.CIRCLE_STEP)
    path, variance = torch.empty(8, 100, 2), torch.empty(8, 100)
    for i in range(8):
        numpy.rand(100)  # jumps, none of which happen
        path[i, 0], variance[i, 0] = torch.tensor([1.0, 0.0]), 0.3
        for t in range(1, 100):
            moved = turn @ path[i, t - 1] + math.sqrt(0.05) * torch.randn(2, generator=g)
            path[i, t] = moved / moved.norm()
            variance[i, t] = max(0.0, numpy.exponential(0.3) - 0.09)
    return path, variance, g


def published_wobbly() -> Sample:
    """(32, 100, 100); positions of all videos step by step."""
    path = published_wobbly_path()
    return swirl(blob_frames(path), strength=10, radius=200).flatten(2), path


def published_wobbly_path() -> Tensor:
    g = Generator().manual_seed(1)
    path = torch.empty(32, 100, 2)
    path[:, 0] = torch.nn.functional.normalize(torch.randn(32, 2, generator=g), dim=-1)
    for t in range(1, 100):
        moved = toy.runge_kutta_step(toy.wobble_velocity, path[:, t - 1], toy.WOBBLE_STEP)
        path[:, t] = moved + math.sqrt(0.1) * torch.randn(32, 2, generator=g)
    return path


def _frame_noise(videos: int, generator: Generator) -> Tensor:
    frames = [torch.randn(10, 10, generator=generator) for _ in range(videos * 100)]
    return torch.stack(frames).reshape(videos, 100, 10, 10)


# -- signal beside nuisance, rotations ---------------------------------------------------------------------------------


def random_step_data(signal: int, nuisance: int, scaled: bool) -> Callable[[int, int], Data]:
    def build(batch: int, seed: int) -> Data:
        g = Generator().manual_seed(seed)
        mixing, R = nuisance_mixing(signal + nuisance, g), toy.random_orthogonal(signal)

        def draw(n: int) -> Sample:
            return flat(toy.random_step(n, mixing, R, nuisance, generator=g))

        x, _ = draw(100_000)
        data = Data((x[rows] for rows in epochs(len(x), batch, g)), draw(10_000), draw(10_000))
        return standardised(data) if scaled else data

    return build


def rotation_of(seed: int) -> Tensor:
    """A of `rotations_data` of a seed."""
    return toy.random_rotation(3, generator=Generator().manual_seed(seed))


def rotations_data(batch: int, seed: int, window: int = 2) -> Data:
    """Windows of 1000 trials of 1000 steps, 1M samples; windows of 100 further trials each are probed."""
    g = Generator().manual_seed(seed)
    A, mixing = toy.random_rotation(3, generator=g), injective_mixing(3, generator=g)
    x = toy.rotations(1200, 1000, A, generator=g)
    train, fit, held_out = x[:1000], x[1000:1100], x[1100:]

    def windows() -> Tensor:
        trial = torch.randint(len(train), (batch, 1), generator=g)
        start = torch.randint(train.shape[1] - window + 1, (batch, 1), generator=g)
        return mixing(train[trial, start + torch.arange(window)])

    def probed(trials: Tensor) -> Sample:
        latents = trials.unfold(1, window, 50).mT.flatten(0, 1)
        return mixing(latents), latents

    return standardised(Data((windows() for _ in iter(int, 1)), probed(fit), probed(held_out), transition=A))
