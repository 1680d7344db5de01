"""What scripts/identifiability.py trains: the data, the networks, and the published numbers beside which its own stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Generator, Tensor, nn

from vidssl.dynamics.recurrent import RecurrentPredictor
from vidssl.objectives.ldm import LDM, PUBLISHED
from vidssl.synthetic import sequences as toy
from vidssl.synthetic.blobs import blob_frames, with_noise
from vidssl.synthetic.mixing import injective_mixing, nuisance_mixing

Sample = tuple[Tensor, Tensor]  # observations (N, T, D) and latents (N, T, d)
PAPER = "arXiv 2605.03517"
FOLLOW_UP = "arXiv 2609.37789, Table 1"
DCL = "arXiv 2410.14673, Table 1"


@dataclass(frozen=True)
class Data:
    """Where training batches come from, and what is probed: `fit` for the map onto the latents, `held_out` to score it."""

    batches: Iterator[Tensor]
    fit: Sample
    held_out: Sample
    transition: Tensor | None = None  # of the true latents, where it is linear


@dataclass(frozen=True)
class Row:
    """One line of the table: what is trained on what, for how long, and what was published for it.

    `rates` are learning rates relative to `lr`, of the encoder, its noise head, and the model (LSTM and head apart for
    a recurrent one). `decay` maps the share of training done to a factor on all of them.
    """

    task: str
    entropy: str
    title: str
    data: Callable[[int, int], Data]
    encoder: Callable[[], nn.Module]
    objective: Callable[[int], LDM]
    updates: int
    quick: int
    batch: int
    lr: float
    rates: dict[str, float]
    decay: Callable[[float], float]
    published: str = "-"
    source: str = ""
    goal: float | None = None
    weight_decay: float = 0.0
    angles: tuple[float, ...] = ()
    published_updates: int | None = None
    unit_start: bool = True  # see `start_at_unit_variance`

    @property
    def name(self) -> str:
        return f"{self.task}-{self.entropy}"


# -- encoders ----------------------------------------------------------------------------------------------------------


def mlp(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, o in pairwise(widths):
        layers += [nn.Linear(i, o), activation()]
    return nn.Sequential(*layers[:-1])


class WithNoise(nn.Module):
    """Latents and, from a network of its own, how noisy their frame is: (…, 2m) for observation_noise="input"."""

    def __init__(self, pixels: int, hidden: int, latents: int) -> None:
        super().__init__()
        self.latents = mlp(pixels, hidden, hidden, latents)
        self.noise = mlp(pixels, hidden, hidden, latents)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.latents(x), self.noise(x)], dim=-1)


# -- data --------------------------------------------------------------------------------------------------------------


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
    (fit, true_fit), (held_out, true) = data.fit, data.held_out
    return Data(
        ((batch - mean) / std for batch in data.batches),
        ((fit - mean) / std, true_fit),
        ((held_out - mean) / std, true),
        data.transition,
    )


def same_path(draw: Callable[..., toy.ToySequences]) -> Callable[[int, int], Data]:
    """Sequences that differ in their pixel noise alone, which is drawn anew for every batch."""

    def build(batch: int, seed: int) -> Data:
        g = Generator().manual_seed(seed)
        fit, held_out = flat(draw(64, generator=g)), flat(draw(64, generator=g))
        return Data((flat(draw(batch, generator=g))[0] for _ in iter(int, 1)), fit, held_out)

    return build


def circle_data(batch: int, seed: int) -> Data:
    g = Generator().manual_seed(seed)
    path, variance = toy.circle_path(3200, generator=g)

    def noisy(rows: Tensor) -> Tensor:
        return with_noise(blob_frames(path[rows]), variance[rows][..., None, None], g).flatten(2)

    fit, held_out = flat(toy.noisy_circle(200, generator=g)), flat(toy.noisy_circle(200, generator=g))
    return Data((noisy(rows) for rows in epochs(len(path), batch, g)), fit, held_out)


def wobbly_data(batch: int, seed: int) -> Data:
    g = Generator().manual_seed(seed)
    frames, _ = flat(toy.wobbly(10_000, generator=g))
    fit, held_out = flat(toy.wobbly(200, generator=g)), flat(toy.wobbly(200, generator=g))
    return standardised(Data((frames[rows] for rows in epochs(len(frames), batch, g)), fit, held_out))


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


# -- rows --------------------------------------------------------------------------------------------------------------


def halved(*at: float) -> Callable[[float], float]:
    return lambda done: 0.5 ** sum(done >= x for x in at)


def linear(end: float) -> Callable[[float], float]:
    return lambda done: 1 + (end - 1) * done


def kalman(dim: int, entropy: str, **options: Any) -> Callable[[int], LDM]:
    return lambda seed: LDM(dim, "kalman", entropy, seed=seed, **{**PUBLISHED, **options})


def recurrent(
    dim: int, entropy: str, head: Sequence[int], variance: float, **options: Any
) -> Callable[[int], LDM]:
    """An LSTM of 10 units, as published, in place of the package's default sizes."""

    def predictor(generator: Generator) -> RecurrentPredictor:
        RecurrentPredictor(
            dim, generator=generator
        )  # dropped: the recorded runs drew their start values after these
        return RecurrentPredictor(dim, 10, head, start_variance=variance, generator=generator)

    return lambda seed: LDM(dim, predictor, entropy, seed=seed, **{**PUBLISHED, **options})


def figure_eight_row(entropy: str, published: str) -> Row:
    return Row(
        task="t1",
        entropy=entropy,
        title="figure-8",
        data=same_path(toy.figure_eight),
        encoder=lambda: mlp(100, 100, 100, 5),
        objective=kalman(5, entropy, state_dim=10),
        updates=2000,
        quick=600 if entropy == "stopgrad" else 400,
        batch=8,
        lr=0.005 * 8 / 256,
        rates={"encoder": 1, "model": 100},
        decay=halved(6 / 20, 13 / 20),
        weight_decay=1e-4,
        published=published,
        source=f"{PAPER}, Fig. 4",
        published_updates=2000,
        goal=0.99,
        angles=(0.1 * math.pi, 0.2 * math.pi),
        unit_start=entropy != "stopgrad",
    )


def square_row(entropy: str, published: str) -> Row:
    """Entropy "none" is the control: an entropy of weight 0, and no cut gradient."""
    control = entropy == "none"
    return Row(
        task="t2",
        entropy=entropy,
        title="square",
        data=same_path(toy.square),
        encoder=lambda: mlp(100, 100, 100, 2),
        objective=kalman(2, "knn", entropy_weight=0.0) if control else kalman(2, entropy),
        updates=150 if control else 2000,
        quick=150 if control else 600 if entropy == "stopgrad" else 400,
        batch=8,
        lr=0.02 * 8 / 256,
        rates={"encoder": 1, "model": 100},
        decay=linear(0.25),
        weight_decay=1e-6,
        published=published,
        source=f"{PAPER}, Fig. A3",
        published_updates=None if control else 2000,
        goal=None if control else 0.97,
        angles=(0.1 * math.pi,),
        unit_start=entropy != "stopgrad",
    )


def circle_row(entropy: str, published: str) -> Row:
    return Row(
        task="t3",
        entropy=entropy,
        title="circle, inferred noise",
        data=circle_data,
        encoder=lambda: WithNoise(100, 100, 2),
        objective=kalman(4, entropy, observation_noise="input"),
        updates=2000,
        quick=400,
        batch=32,
        lr=0.01 * 32 / 256,
        rates={"encoder": 1, "noise": 0.03, "model": 100},
        decay=linear(0.25),
        weight_decay=1e-6,
        published=published,
        source=f"{PAPER}, Fig. A4",
        published_updates=2000,
        goal=0.96,
        angles=(0.1 * math.pi,),
    )


def wobbly_row() -> Row:
    return Row(
        task="t4",
        entropy="knn",
        title="wobbly",
        data=wobbly_data,
        encoder=lambda: mlp(100, 200, 2),
        objective=recurrent(2, "knn", (20, 20), 1.0, max_rows=5 * 128),
        updates=23_400,
        quick=2000,
        batch=128,
        lr=0.002 * 128 / 256,
        rates={"encoder": 1, "lstm": 30, "head": 30},
        decay=linear(0.45),
        published="0.94",
        source=f"{PAPER}, Fig. 5",
        published_updates=23_400,
        goal=0.93,
    )


def random_step_row(d: int, entropy: str, published: str) -> Row:
    """k-NN at twice the published rate and for half as long, on standardised observations and with no distance clipped."""
    knn = entropy == "knn"
    return Row(
        task=f"t5d{d}",
        entropy=entropy,
        title=f"random step, {d} signal, {d} nuisance",
        data=random_step_data(d, d, scaled=knn),
        encoder=lambda: mlp(100, 200, 200, 200, 200, 200, d),
        objective=recurrent(d, entropy, (), 0.19, pool="per_step", clip_quantile=1.0),
        updates=3900 if knn else 7800,
        quick=1950,
        batch=256,
        lr=6e-4 if knn else 3e-4,
        rates={"encoder": 2, "lstm": 20, "head": 30},
        decay=linear(1 / 30),
        published=published,
        source=FOLLOW_UP,
        published_updates=7800,
        goal=float(published) - 0.02,
        unit_start=False,
    )


def rotations_row() -> Row:
    return Row(
        task="t6",
        entropy="knn",
        title="3-D rotations",
        data=rotations_data,
        encoder=lambda: mlp(50, 180, 180, 180, 3, activation=nn.GELU),
        # One entropy for each frame number: pooled, the nearest neighbours of a frame are those of its own window. No
        # distance is clipped: the process fills a thick shell, and clipping the largest tenth shrinks its outside.
        objective=kalman(
            3, "knn", observation_noise="diag", scale="learned", burn_in=1, pool="per_step", clip_quantile=1.0
        ),
        updates=8000,
        quick=1500,
        batch=1024,
        lr=1e-3,
        rates={"encoder": 1, "model": 30},
        decay=linear(0.02),
        published="0.990",
        source=DCL,
        published_updates=30_000,
        goal=0.99,
    )


ROWS = [
    figure_eight_row("knn", "0.991"),
    figure_eight_row("stopgrad", "0.990"),
    figure_eight_row("logdet", "-"),
    square_row("knn", "0.97"),
    square_row("stopgrad", "0.967"),
    square_row("logdet", "-"),
    square_row("none", "-"),
    circle_row("stopgrad", "0.959"),
    circle_row("knn", "-"),
    wobbly_row(),
    random_step_row(5, "knn", "0.98"),
    random_step_row(5, "logdet", "0.99"),
    random_step_row(10, "knn", "0.95"),
    random_step_row(10, "logdet", "0.95"),
    rotations_row(),
]
