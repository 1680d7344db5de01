"""What scripts/identifiability.py trains: one row of its table after another, and the published numbers beside them.

Where a row is `released`, it is the model of the authors' code with its settings, on t1 to t3: one hidden layer, Q and R
with a common factor that starts at e, latents that start as PyTorch initialises them, weight decay on everything.
The other rows of t1 to t3 have the same encoder and data, R = I, and latents that start with unit variance.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from identifiability_data import (
    Data,
    circle_data,
    random_step_data,
    rotation_of,
    rotations_data,
    same_path,
    wobbly_data,
)
from identifiability_models import PixelVariance, WithNoise, kalman, known_rotation, mlp, recurrent, released
from torch import nn

from vidssl.objectives.ldm.objective import LDM
from vidssl.synthetic import sequences as toy

PAPER = "arXiv 2605.03517"
FOLLOW_UP = "arXiv 2609.37789, Table 1"
DCL = "arXiv 2410.14673, Table 1"


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
    variant: str = ""
    published: float | None = None
    source: str = ""
    weight_decay: float = 0.0
    angles: tuple[float, ...] = ()
    published_updates: int | None = None
    unit_start: bool = True  # see `start_at_unit_variance`

    @property
    def name(self) -> str:
        return "-".join(part for part in (self.task, self.entropy, self.variant) if part)

    @property
    def of_one_video(self) -> bool:
        """Whether the published number is of one test video."""
        return self.source.startswith(PAPER)

    @property
    def released(self) -> bool:
        return self.variant == "released"


def halved(*at: float) -> Callable[[float], float]:
    return lambda done: 0.5 ** sum(done >= x for x in at)


def linear(end: float) -> Callable[[float], float]:
    return lambda done: 1 + (end - 1) * done


def figure_eight_row(entropy: str, published: float | None = None, variant: str = "") -> Row:
    objective = kalman(5, entropy, state_dim=10) if not variant else released(5, entropy, state=10)
    return Row(
        task="t1",
        entropy=entropy,
        variant=variant,
        title="figure-8",
        data=same_path(toy.figure_eight),
        encoder=lambda: mlp(100, 100, 5),
        objective=objective,
        updates=400 if entropy == "logdet" else 2000,
        quick=400,
        batch=8,
        lr=0.005 * 8 / 256,
        rates={"encoder": 1, "model": 100},
        decay=halved(6 / 20, 13 / 20),
        weight_decay=1e-4,
        published=published,
        source=f"{PAPER}, Fig. 4",
        published_updates=2000,
        angles=(0.1 * math.pi, 0.2 * math.pi),
        unit_start=not variant,
    )


def square_row(entropy: str, published: float | None = None, variant: str = "") -> Row:
    """Entropy "none" is the control: an entropy of weight 0, and no cut gradient."""
    control = entropy == "none"
    objective = kalman(2, "knn", entropy_weight=0.0) if control else kalman(2, entropy)
    return Row(
        task="t2",
        entropy=entropy,
        variant=variant,
        title="square",
        data=same_path(toy.square),
        encoder=lambda: mlp(100, 100, 2),
        objective=released(2, entropy, state=2) if variant else objective,
        updates={"none": 150, "logdet": 400}.get(entropy, 2000),
        quick=150 if control else 400,
        batch=8,
        lr=0.02 * 8 / 256,
        rates={"encoder": 1, "model": 100},
        decay=linear(0.25),
        weight_decay=1e-6,
        published=published,
        source=f"{PAPER}, Fig. A3",
        published_updates=None if control else 2000,
        angles=(0.1 * math.pi,),
        unit_start=not variant,
    )


def circle_row(entropy: str, published: float | None = None, variant: str = "") -> Row:
    objective = kalman(4, entropy, observation_noise="input", method="scan")
    return Row(
        task="t3",
        entropy=entropy,
        variant=variant,
        title="circle, inferred noise",
        data=circle_data,
        encoder=lambda: WithNoise(mlp(100, 100, 2), PixelVariance(100, 2)),
        objective=released(4, entropy, state=2, R="input") if variant else objective,
        updates=2000,
        quick=400,
        batch=32,
        lr=0.01 * 32 / 256,
        rates={"encoder": 1, "noise": 0.03, "model": 100},
        decay=halved(6 / 20, 13 / 20),
        weight_decay=1e-6,
        published=published,
        source=f"{PAPER}, Fig. A4",
        published_updates=2000,
        angles=(0.1 * math.pi,),
        unit_start=not variant,
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
        published=0.94,
        source=f"{PAPER}, Fig. 5",
        published_updates=23_400,
    )


def random_step_row(d: int, entropy: str, published: float) -> Row:
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
        unit_start=False,
    )


def rotations_row(published: float | None, dynamics: str = "") -> Row:
    """`dynamics`: "" A is learned; "none" A = I, "oracle" the true A, neither learned; "orthogonal" learned as such."""
    # One entropy for each frame number: pooled, the nearest neighbours of a frame are those of its own window. No
    # distance is clipped: the process fills a thick shell, and clipping the largest tenth shrinks its outside.
    options = {"burn_in": 1, "pool": "per_step", "clip_quantile": 1.0}
    free = {"observation_noise": "diag", "scale": "learned", **options}
    # With R a multiple of I the noise of the latents is the same in all directions, where a rotation stays orthogonal.
    orthogonal = {**free, "observation_noise": "identity", "transition": "orthogonal"}
    said, objective = {
        "": ("", kalman(3, "knn", **free)),
        "orthogonal": (", orthogonal dynamics", kalman(3, "knn", **orthogonal)),
        "none": (", no dynamics", known_rotation(lambda seed: torch.eye(3), "knn", **options)),
        "oracle": (", true dynamics", known_rotation(rotation_of, "knn", **options)),
    }[dynamics]
    return Row(
        task="t6",
        entropy="knn",
        variant=dynamics,
        title="3-D rotations" + said,
        data=rotations_data,
        encoder=lambda: mlp(50, 180, 180, 180, 3, activation=nn.GELU),
        objective=objective,
        # As published for what is compared with it; the controls have settled by 8,000.
        updates=8000 if dynamics else 30_000,
        quick=1500,
        batch=1024,
        lr=1e-3,
        rates={"encoder": 1, "model": 30},
        decay=linear(0.02),
        published=published,
        source=DCL,
        published_updates=30_000,
    )


ROWS = [
    figure_eight_row("stopgrad", 0.990, "released"),
    figure_eight_row("knn", 0.991, "released"),
    figure_eight_row("knn"),
    figure_eight_row("logdet"),
    square_row("stopgrad", 0.967, "released"),
    square_row("knn", 0.97, "released"),
    square_row("knn"),
    square_row("logdet"),
    square_row("none"),
    circle_row("stopgrad", 0.959, "released"),
    circle_row("knn"),
    wobbly_row(),
    random_step_row(5, "knn", 0.98),
    random_step_row(5, "logdet", 0.99),
    random_step_row(10, "knn", 0.95),
    random_step_row(10, "logdet", 0.95),
    rotations_row(0.7356, "none"),
    rotations_row(0.9903),
    rotations_row(None, "orthogonal"),
    rotations_row(0.9946, "oracle"),
]
