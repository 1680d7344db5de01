"""Why there is a prior: in a small world with hubs, plain self-distillation feeds them and the centre starves them.

150 concepts in 64 dimensions, 60 of which occur in videos. All videos and, unequally, all concept vectors lean towards
one direction; concepts that lean more are hubs, preferred by videos that show something else. The student is a linear
map that starts as the identity, and zero-shot accuracy is that of its plain argmax. One world, a few steps: only the
order of the numbers means something.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.objectives.concept.reference import Space
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.concept.objective import ConceptObjective

DIM, CONCEPTS, OCCURRING = 64, 150, 60


class World:
    """Concept vectors with hubs, and videos."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        axes = torch.linalg.qr(self.noise(DIM, DIM))[0]
        text, self.common = axes[0], axes[1]
        rest = axes[2:]
        self.meaning = normalize(self.noise(CONCEPTS, DIM) @ rest.T @ rest, dim=1)
        # How much a concept leans towards what all videos have in common.
        hub = 0.03 * self.noise(CONCEPTS, 1)
        described = normalize(self.meaning + 0.3 * self.noise(CONCEPTS, DIM) / 8, dim=1)
        also = hub + 0.01 * self.noise(CONCEPTS, 1)
        self.space = Space(
            normalize(text + 0.5 * self.meaning + hub * self.common, dim=1),
            normalize(text + 0.5 * described + also * self.common, dim=1),
            "0" * 64,
        )

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)

    def videos(self, n: int) -> tuple[Tensor, Tensor]:
        """(n, 64) features of the image model, and the concept that each shows."""
        shown = torch.randint(OCCURRING, (n,), generator=self.generator)
        return self.common + 0.35 * self.meaning[shown] + 0.7 * self.noise(n, DIM) / 8, shown

    def view(self, videos: Tensor) -> Tensor:
        return videos + 0.6 * self.noise(*videos.shape) / 8


class Outcome(NamedTuple):
    """Of a student: accuracy of the plain argmax, after subtracting mean cosines, entropy of what it answers / log K,
    mean cosine with where it started."""

    accuracy: float
    debiased: float
    spread: float
    nearness: float


def outcome(world: World, student: Tensor) -> Outcome:
    videos, shown = world.videos(3000)
    features = normalize(videos @ student, dim=1)
    logits = features @ world.space.category.T
    answers = logits.argmax(dim=1)
    share = torch.bincount(answers, minlength=CONCEPTS) / len(answers)
    return Outcome(
        (answers == shown).float().mean().item(),
        ((logits - logits.mean(dim=0)).argmax(dim=1) == shown).float().mean().item(),
        torch.special.entr(share).sum().item() / math.log(CONCEPTS),
        (features * normalize(videos, dim=1)).sum(dim=1).mean().item(),
    )


def train(prior: str, steps: int = 150, anchor: float = 0.0, seed: int = 0) -> Outcome:
    """Adam and an EMA teacher on batches of 64 videos with two views."""
    world = World(seed)
    objective = ConceptObjective(world.space, prior=prior, anchor=anchor)
    student = nn.Parameter(torch.eye(DIM))
    teacher = torch.eye(DIM)
    optimiser = torch.optim.Adam([student], lr=2e-3)
    for _ in range(steps):
        videos, _ = world.videos(64)
        views = [world.view(videos) for _ in range(2)]
        batch = BatchInfo(torch.arange(64), anchors=views if anchor else ())
        loss = objective([view @ student for view in views], [view @ teacher for view in views], batch).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        teacher = 0.99 * teacher + 0.01 * student.detach()
    return outcome(world, student.detach())


@pytest.fixture(scope="module")
def start() -> Outcome:
    return outcome(World(0), torch.eye(DIM))


@pytest.fixture(scope="module")
def centred() -> Outcome:
    return train("center")


def test_without_a_prior_hubs_are_reinforced(start: Outcome) -> None:
    none = train("none")
    assert none.accuracy < start.accuracy - 0.05
    assert none.spread < start.spread - 0.03
    # What it has learned is still there, behind the hubs.
    assert none.debiased > start.debiased - 0.05


def test_the_centre_on_the_teacher_raises_plain_accuracy(start: Outcome, centred: Outcome) -> None:
    assert centred.accuracy > start.accuracy + 0.05
    assert centred.spread > start.spread
    # Subtracting mean cosines at test time gives as much without any training: print it beside every result.
    assert start.debiased > centred.accuracy


def test_the_anchor_keeps_features_near_their_start(centred: Outcome) -> None:
    anchored = train("center", anchor=5.0)
    assert anchored.nearness > centred.nearness + 0.05


def test_without_training_nothing_changes(start: Outcome) -> None:
    """Negative control: the measurement itself neither loses nor gains."""
    assert train("center", steps=0) == start
