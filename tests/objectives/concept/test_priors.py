"""Priors on the teacher's targets: NumPy, closed forms, and what each is meant to make equal."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.errors import VidsslError
from vidssl.objectives.concept.priors import PRIORS, Prior, build_prior

K = 5


def cosines(b: int = 6, k: int = K, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.4 * torch.rand(b, k, generator=generator, dtype=torch.float64)


def make(name: str, **options: Any) -> Prior:
    return build_prior(name, K, **options).double()


def step(prior: Prior, *views: Tensor, temperature: float = 0.1) -> list[Tensor]:
    found: list[Tensor] = prior(views, temperature)
    prior.update(views, temperature)
    return found


@pytest.mark.parametrize("strength", [1.0, 0.3])
def test_center_follows_the_mean_cosine_after_the_loss(strength: float) -> None:
    prior = make("center", strength=strength)
    centre = None
    for number in range(4):
        views = [cosines(6, seed=2 * number), cosines(6, seed=2 * number + 1)]
        mean = np.concatenate([v.numpy() for v in views]).mean(axis=0)
        centre = mean if centre is None else centre  # the first batch is its own centre
        for view, p in zip(views, step(prior, *views), strict=True):
            expected = reference.probs(view.numpy(), 0.1, strength * centre)
            np.testing.assert_allclose(p.numpy(), expected, atol=1e-9)
        centre = 0.9 * centre + 0.1 * mean
        np.testing.assert_allclose(prior.mean.numpy(), centre, atol=1e-9)


def test_centred_targets_do_not_know_what_a_concept_has_in_common_over_videos() -> None:
    """A constant on a concept's cosines of all videos changes nothing once the centre has seen it."""
    shift = torch.tensor([0.3, 0.0, -0.2, 0.0, 0.1], dtype=torch.float64)
    plain, shifted, fresh = make("center"), make("center"), make("center")
    for number in range(250):
        plain.update([cosines(seed=number % 7)], 0.1)
        # The shift sets in after the first batches, so that the centre has to move.
        shifted.update([cosines(seed=number % 7) + (shift if number > 5 else 0)], 0.1)
    view = cosines(seed=50)
    (p,), (q,) = plain([view], 0.1), shifted([view + shift], 0.1)
    torch.testing.assert_close(p, q, rtol=0, atol=1e-9)
    torch.testing.assert_close(fresh([view + shift], 0.1)[0], fresh([view], 0.1)[0])
    # Negative controls: without a prior, and before the centre has caught up, the shift decides the target.
    (a,), (b,) = make("none")([view], 0.1), make("none")([view + shift], 0.1)
    assert (a - b).abs().max() > 0.3
    shifted.update([view], 0.1)
    (late,) = shifted([view], 0.1)
    assert (late - p).abs().max() > 0.1


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_log_prior_divides_by_how_often_a_concept_is_predicted(strength: float) -> None:
    prior = make("log_prior", strength=strength)
    running = None
    for number in range(4):
        view = cosines(seed=number)
        plain = reference.probs(view.numpy(), 0.1)
        running = plain.mean(axis=0) if running is None else running
        expected = plain / running**strength
        expected /= expected.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(step(prior, view)[0].numpy(), expected, atol=1e-9)
        running = 0.99 * running + 0.01 * plain.mean(axis=0)
        np.testing.assert_allclose(prior.mean.numpy(), running, atol=1e-9)


def test_a_concept_that_is_never_predicted_is_lifted_up_to_the_floor_only() -> None:
    prior = make("log_prior")
    view = cosines()
    view[:, 0] -= 1
    prior.update([view], 0.01)
    assert prior.mean[0] < 1e-30
    scaled = reference.probs(view.numpy(), 0.01) / np.maximum(prior.mean.numpy(), 1e-6)
    (p,) = prior([view], 0.01)
    np.testing.assert_allclose(p.numpy(), scaled / scaled.sum(axis=1, keepdims=True), atol=1e-12)


def test_sinkhorn_equals_dividing_by_sums_over_batch_and_queue() -> None:
    prior = make("sinkhorn", queue_size=10)
    past: list[np.ndarray[Any, Any]] = []
    for number in range(5):  # 4, 8, 12, … rows: the queue fills and wraps around
        views = [cosines(2, seed=2 * number), cosines(2, seed=2 * number + 1)]
        rows = np.concatenate([v.numpy() for v in views] + past[-10:])
        expected = reference.sinkhorn(rows, 0.1, iterations=3)[:4]
        found = torch.cat(step(prior, *views)).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-9)
        past += [row[None].numpy() for v in views for row in v]


def test_sinkhorn_marginals() -> None:
    """Rows have mass 1 always; concepts get the same mass, which plain targets do not."""
    view = cosines(200)
    view[:, 0] += 0.15
    prior = make("sinkhorn", queue_size=1)
    prior.iterations = 200  # type: ignore[assignment]
    (p,) = prior([view], 0.05)
    np.testing.assert_allclose(p.sum(dim=1).numpy(), np.ones(200), atol=1e-12)
    np.testing.assert_allclose(p.mean(dim=0).numpy(), np.full(K, 1 / K), atol=1e-9)
    (plain,) = make("none")([view], 0.05)
    assert plain.mean(dim=0)[0] > 0.5
    (three,) = make("sinkhorn")([view], 0.05)
    assert (three.mean(dim=0) - 1 / K).abs().max() < 0.02
    (weak,) = make("sinkhorn", strength=0.5)([view], 0.05)
    assert 1 / K + 0.05 < weak.mean(dim=0)[0] < plain.mean(dim=0)[0] - 0.05


def test_memax_asks_for_a_high_entropy_of_the_mean_prediction() -> None:
    prior = make("memax")
    p = [torch.from_numpy(reference.probs(cosines(seed=s).numpy(), 0.1)).requires_grad_() for s in (1, 2)]
    mean = np.concatenate([x.detach().numpy() for x in p]).mean(axis=0)
    value = prior.regulariser(p)
    assert value is not None
    assert value.item() == pytest.approx(-reference.entropy(mean), abs=1e-9)
    assert torch.autograd.gradcheck(lambda *x: prior.regulariser(x), tuple(p))
    one_hot = torch.eye(K, dtype=torch.float64).requires_grad_()
    flat = prior.regulariser([one_hot])
    assert flat is not None
    assert flat.item() == pytest.approx(-math.log(K))
    same = one_hot[:1].expand(4, -1)
    worst = prior.regulariser([same])
    assert worst is not None
    assert worst.item() == pytest.approx(0)
    worst.backward()
    assert one_hot.grad is not None
    assert torch.isfinite(one_hot.grad).all()


@pytest.mark.parametrize("name", ["memax", "none"])
def test_plain_targets(name: str) -> None:
    prior, view = make(name), cosines()
    for _ in range(2):
        np.testing.assert_allclose(step(prior, view)[0], reference.probs(view.numpy(), 0.1), atol=1e-12)
    assert prior.state_dict() == {}
    assert make("none").regulariser([view]) is None


@pytest.mark.parametrize("name", PRIORS)
def test_targets_are_distributions_without_gradient(name: str) -> None:
    views = [cosines(seed=s).requires_grad_() for s in (1, 2)]
    found = step(make(name), *views, temperature=0.01)
    assert [x.shape for x in found] == [(6, K)] * 2
    assert not any(x.requires_grad for x in found)
    torch.testing.assert_close(torch.cat(found).sum(dim=1), torch.ones(12, dtype=torch.float64))


@pytest.mark.parametrize("name", ["center", "log_prior", "sinkhorn"])
def test_no_strength_is_no_prior(name: str) -> None:
    view = cosines()
    weak = make(name, strength=0.0)
    weak.update([cosines(seed=3) + torch.eye(K, dtype=torch.float64)[0]], 0.1)
    torch.testing.assert_close(weak([view], 0.1)[0], make("none")([view], 0.1)[0])


@pytest.mark.parametrize("name", ["center", "log_prior", "sinkhorn"])
def test_warm_start_is_the_statistic_of_all_rows(name: str) -> None:
    warm, many = make(name), cosines(1000, seed=1)
    warm.warm_start(many, 0.1)
    view = cosines(4, seed=2)
    (p,) = warm([view], 0.1)
    if name == "center":
        expected = reference.probs(view.numpy(), 0.1, many.numpy().mean(axis=0))
    elif name == "log_prior":
        plain = reference.probs(view.numpy(), 0.1) / reference.probs(many.numpy(), 0.1).mean(axis=0)
        expected = plain / plain.sum(axis=1, keepdims=True)
    else:
        expected = reference.sinkhorn(np.concatenate([view.numpy(), many.numpy()]), 0.1, 3)[:4]
    np.testing.assert_allclose(p.numpy(), expected, atol=1e-9)
    (cold,) = make(name)([view], 0.1)
    assert (cold - p).abs().max() > 1e-3
    warm.update([view], 0.1)
    if name == "center":  # the warm-up counts as the past, not as one more batch to overwrite
        expected = 0.9 * many.mean(dim=0) + 0.1 * view.mean(dim=0)
        torch.testing.assert_close(warm.mean, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "centre"}, "did you mean 'center'"),
        ({"name": "center", "strength": 1.5}, "prior_strength=1.5: must be in"),
        ({"name": "center", "momentum": 1.0}, "prior_momentum=1.0: must be in"),
        ({"name": "sinkhorn", "momentum": 0.9}, "'sinkhorn' has no running mean"),
        ({"name": "sinkhorn", "queue_size": 0}, "queue_size=0"),
        ({"name": "memax", "strength": 0.5}, "prior_strength=0.5"),
    ],
)
def test_options_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(VidsslError, match=message) as caught:
        build_prior(concepts=K, **arguments)
    assert "\n" not in str(caught.value)
