"""What is logged of a concept space, against NumPy, and the sentence said when it looks wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.objectives.base import cross_view_pairs
from vidssl.objectives.concept import concept_distillation_loss, concept_probs, concept_warning
from vidssl.objectives.concept.monitors import ConceptMonitor

K = 6


def cosines(b: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(b, K, generator=generator, dtype=torch.float64)


def look(
    monitor: ConceptMonitor, b: int, seed: int, remember: bool = True
) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Three views of the student, the teacher saw views 2 and 0."""
    student = [cosines(b, 10 * seed + view) for view in range(3)]
    targets = [concept_probs(student[view].roll(1, dims=0), 0.1) for view in (2, 0)]
    loss = concept_distillation_loss(student, targets, 0.2, teacher_views=(2, 0))
    pairs = cross_view_pairs(3, 2, (2, 0))
    return monitor(student, targets, loss, pairs, remember), [*student, *targets]


def test_monitors_equal_numpy() -> None:
    monitor = ConceptMonitor(K, window=8).double()
    clips, marginal, winners = 0, np.zeros(K), list[int]()
    for seed, b in enumerate([3, 4, 5, 2]):
        logs, tensors = look(monitor, b, seed)
        v0, v1, v2, p2, p0 = (x.numpy() for x in tensors)
        pairs = [(v0, p2), (v1, p2), (v1, p0), (v2, p0)]
        scale = math.log(K)
        entropy = np.mean([reference.entropy(row) for _, p in pairs for row in p])
        cross = np.mean([reference.cross_entropy(p, v, 0.2) for v, p in pairs])
        same = np.mean([v.argmax(axis=1) == p.argmax(axis=1) for v, p in pairs])
        clips += b
        share = b / min(clips, 8)
        marginal = (1 - share) * marginal + share * (p0 + p2).mean(axis=0) / 2
        winners = (winners + v0.argmax(axis=1).tolist())[-8:]
        assert logs["entropy"].item() == pytest.approx(entropy / scale, abs=1e-9)
        assert logs["divergence"].item() == pytest.approx(cross - entropy, abs=1e-9)
        assert logs["divergence"].item() > 0
        assert logs["agreement"].item() == pytest.approx(same, abs=1e-12)
        assert logs["marginal_entropy"].item() == pytest.approx(reference.entropy(marginal) / scale, abs=1e-9)
        assert logs["used"].item() == pytest.approx(len(set(winners)) / K, abs=1e-12)
        assert not any(value.requires_grad for value in logs.values())
    assert int(monitor.clips) == clips


def test_the_marginal_is_the_plain_mean_over_the_first_window() -> None:
    monitor = ConceptMonitor(K, window=100).double()
    rows = []
    for seed in range(5):
        logs, tensors = look(monitor, 7, seed)
        rows.append((tensors[3] + tensors[4]) / 2)
    expected = reference.entropy(torch.cat(rows).mean(dim=0).numpy()) / math.log(K)
    assert logs["marginal_entropy"].item() == pytest.approx(expected, abs=1e-12)


def test_extremes() -> None:
    pairs = [(0, 0)]
    hub = torch.eye(K, dtype=torch.float64)[torch.zeros(50, dtype=torch.int64)]
    spread = torch.eye(K, dtype=torch.float64)[torch.arange(60) % K]
    flat = torch.full((50, K), 1 / K, dtype=torch.float64)
    for target, expected in ((hub, (0, 0)), (spread, (0, 1)), (flat, (1, 1))):
        logs = ConceptMonitor(K)([target], [target], torch.tensor(2.0), pairs, True)
        assert logs["entropy"].item() == pytest.approx(expected[0], abs=1e-6)
        assert logs["marginal_entropy"].item() == pytest.approx(expected[1], abs=1e-6)
        assert logs["agreement"].item() == 1
    assert ConceptMonitor(K)([hub], [hub], torch.tensor(0.0), pairs, True)["used"].item() == pytest.approx(
        1 / K
    )
    assert ConceptMonitor(K)([spread], [spread], torch.tensor(0.0), pairs, True)["used"].item() == 1


def test_evaluation_leaves_no_trace() -> None:
    monitor = ConceptMonitor(K, window=8).double()
    look(monitor, 3, 0)
    before = {key: value.clone() for key, value in monitor.state_dict().items()}
    seen, _ = look(monitor, 4, 1, remember=False)
    assert all(torch.equal(value, before[key]) for key, value in monitor.state_dict().items())
    # The clips at hand are part of the picture all the same.
    remembered, _ = look(monitor, 4, 1)
    assert {key: value.item() for key, value in seen.items()} == {
        key: value.item() for key, value in remembered.items()
    }


def test_warnings_in_words() -> None:
    healthy = {
        f"concept/{quantity}_{space}": value
        for space in ("category", "description")
        for quantity, value in (("entropy", 0.5), ("marginal_entropy", 0.8), ("divergence", 0.1))
    } | {"concept/clips": 1000.0, "concept/anchor_cosine": 0.95, "hsic/hsic_xx": 0.1}
    assert concept_warning(healthy) is None
    assert concept_warning({}) is None
    hubs = concept_warning(healthy | {"concept/marginal_entropy_description": 0.2})
    assert hubs is not None
    assert "description space receive nearly all targets" in hubs
    assert "0.20" in hubs
    assert "prior=center" in hubs
    flat = concept_warning(healthy | {"concept/entropy_category": 0.97})
    assert flat is not None
    assert "targets of the category space are flat" in flat
    assert "teacher_temperature" in flat
    drift = concept_warning(healthy | {"concept/anchor_cosine": 0.85})
    assert drift is not None
    assert "drifted" in drift
    assert "anchor to 1 to 5" in drift
    everything = concept_warning(
        healthy | {"concept/anchor_cosine": 0.5, "concept/marginal_entropy_category": 0.1}
    )
    assert everything is not None
    assert "drifted" in everything
    assert "category" in everything
    assert "\n" not in everything


def test_few_clips_prove_no_hub() -> None:
    """Two sharp targets have a mean of entropy log 2 at most, whatever the state of the space."""
    logs = {"mine/marginal_entropy_category": 0.1, "mine/entropy_category": 0.05, "mine/clips": 16.0}
    assert concept_warning(logs) is None
    said = concept_warning(logs | {"mine/clips": 200.0})
    assert said is not None
    assert said.startswith("mine: few concepts")
