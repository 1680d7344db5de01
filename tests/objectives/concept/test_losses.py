"""The concept losses against closed forms, NumPy loops and lightly's DINO."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.errors import VidsslError
from vidssl.objectives.concept import (
    concept_alignment_loss,
    concept_distillation_loss,
    concept_probs,
)
from vidssl.objectives.concept.losses import anchor_cosine, concept_logits


def cosines(views: int, b: int = 3, k: int = 5, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [2 * torch.rand(b, k, generator=generator, dtype=torch.float64) - 1 for _ in range(views)]


def targets(views: int, b: int = 3, k: int = 5, seed: int = 50) -> list[Tensor]:
    return [concept_probs(x, 0.3) for x in cosines(views, b, k, seed)]


@pytest.mark.parametrize("k", [2, 530])
def test_equal_logits_cost_log_k(k: int) -> None:
    flat = [torch.full((2, k), 0.25, dtype=torch.float64)] * 2
    for target in (targets(2, 2, k), [torch.eye(2, k, dtype=torch.float64)] * 2):
        assert concept_distillation_loss(flat, target, 0.01).item() == pytest.approx(math.log(k), abs=1e-12)
        loss = concept_alignment_loss((flat, flat), (target, target), 0.01)
        assert loss.item() == pytest.approx(math.log(k), abs=1e-12)
    if k == 530:
        assert math.log(k) == pytest.approx(6.273, abs=5e-4)


def test_a_student_that_is_sure_of_a_sure_target_pays_nothing() -> None:
    logits = [torch.eye(4, 6, dtype=torch.float64)] * 2
    target = [concept_probs(x, 0.01) for x in logits]
    assert target[0].max(dim=1).values.min().item() == pytest.approx(1, abs=1e-15)
    assert concept_distillation_loss(logits, target, 0.01).item() == pytest.approx(0, abs=1e-12)
    assert concept_alignment_loss((logits, logits), (target, target), 0.01).item() == pytest.approx(
        0, abs=1e-12
    )
    wrong = [x.roll(1, dims=1) for x in logits]
    assert concept_distillation_loss(wrong, target, 0.01).item() == pytest.approx(100, abs=1e-6)


@settings(max_examples=25, deadline=None)
@given(
    views=st.integers(1, 4),
    b=st.integers(1, 4),
    k=st.integers(2, 6),
    temperature=st.floats(0.05, 2.0),
    sigma=st.floats(0, 1),
    data=st.data(),
)
def test_losses_equal_their_definition(
    views: int, b: int, k: int, temperature: float, sigma: float, data: st.DataObject
) -> None:
    seen = data.draw(st.lists(st.integers(0, views), min_size=1, max_size=3, unique=True))
    c, d = cosines(views, b, k, 1), cosines(views, b, k, 2)
    p_c, p_d = targets(len(seen), b, k, 3), targets(len(seen), b, k, 4)
    c_, d_, p_c_, p_d_ = ([x.numpy() for x in views] for views in (c, d, p_c, p_d))
    if views > 1 or seen != [0]:  # else there is no other view
        loss = concept_distillation_loss(c, p_c, temperature, teacher_views=seen)
        assert loss.item() == pytest.approx(reference.distillation(c_, p_c_, temperature, seen), abs=1e-9)
        entropy = np.mean([[reference.entropy(row) for row in view] for view in p_c_])
        if views not in seen:  # every target then takes part equally often
            assert loss.item() >= entropy - 1e-12
    loss = concept_distillation_loss(c, p_c, temperature, skip_same_view=False)
    assert loss.item() == pytest.approx(reference.distillation(c_, p_c_, temperature, skip=False), abs=1e-9)
    loss = concept_alignment_loss((c, d), (p_c, p_d), temperature, sigma=sigma, teacher_views=seen)
    expected = reference.alignment(c_, d_, p_c_, p_d_, temperature, sigma)
    assert loss.item() == pytest.approx(expected, abs=1e-9)


def test_the_cross_entropy_is_the_entropy_only_for_equal_distributions() -> None:
    logits = cosines(2)
    same = [concept_probs(logits[0], 0.2)]
    entropy = np.mean([reference.entropy(row) for row in same[0].numpy()])
    loss = concept_distillation_loss(logits[:1], same, 0.2, skip_same_view=False)
    assert loss.item() == pytest.approx(entropy, abs=1e-12)
    assert concept_distillation_loss(logits[1:], same, 0.2, skip_same_view=False).item() > entropy + 0.01


def test_same_view_is_told_by_index_not_by_position() -> None:
    student, teacher = cosines(3), targets(2)
    values = {
        (s, t): concept_distillation_loss([student[s]], [teacher[t]], 0.1, skip_same_view=False).item()
        for s in range(3)
        for t in range(2)
    }
    loss = concept_distillation_loss(student, teacher, 0.1, teacher_views=(2, 0)).item()
    assert loss == pytest.approx(np.mean([values[pair] for pair in [(0, 0), (1, 0), (1, 1), (2, 1)]]))
    first = concept_distillation_loss(student, teacher, 0.1).item()
    assert first == pytest.approx(np.mean([values[pair] for pair in [(0, 1), (1, 0), (2, 0), (2, 1)]]))
    # One and the same view is better than nothing.
    assert concept_distillation_loss(student[:1], teacher[:1], 0.1).item() == pytest.approx(values[0, 0])


def test_alignment_in_one_direction() -> None:
    c, d, p_c, p_d = cosines(2, seed=1), cosines(2, seed=2), targets(2, seed=3), targets(2, seed=4)
    forth = concept_alignment_loss(d, p_c, 0.1)
    assert forth.item() == concept_alignment_loss((c, d), (p_c, p_d), 0.1, sigma=0).item()
    back = concept_alignment_loss(c, p_d, 0.1)
    both = concept_alignment_loss((c, d), (p_c, p_d), 0.1)
    assert both.item() == pytest.approx((forth.item() + back.item()) / 2, abs=1e-12)
    skipped = concept_alignment_loss((c, d), (p_c, p_d), 0.1, skip_same_view=True)
    assert abs(skipped.item() - both.item()) > 1e-4


def test_gradients() -> None:
    c, d = ([x.requires_grad_() for x in cosines(2, seed=seed)] for seed in (1, 2))
    p_c, p_d = ([x.requires_grad_() for x in targets(2, seed=seed)] for seed in (3, 4))
    assert torch.autograd.gradcheck(lambda *x: concept_distillation_loss(x, p_c, 0.2), tuple(c))
    assert torch.autograd.gradcheck(
        lambda *x: concept_alignment_loss((x[:2], x[2:]), (p_c, p_d), 0.2, sigma=0.5), (*c, *d)
    )
    concept_alignment_loss((c, d), (p_c, p_d), 0.2).backward()
    assert all(x.grad is None for x in [*p_c, *p_d])
    # Closed form: (P_s - P_t) / (τ B), averaged over pairs.
    x = c[0].detach().requires_grad_()
    concept_distillation_loss([x], [p_c[0]], 0.2, skip_same_view=False).backward()
    torch.testing.assert_close(x.grad, (concept_probs(x.detach(), 0.2) - p_c[0].detach()) / (0.2 * 3))


def test_probabilities_and_their_bias() -> None:
    (logits,) = cosines(1)
    bias = torch.linspace(-0.2, 0.3, 5, dtype=torch.float64)
    p = concept_probs(logits, 0.05, bias)
    np.testing.assert_allclose(p.numpy(), reference.probs(logits.numpy(), 0.05, bias.numpy()), atol=1e-12)
    torch.testing.assert_close(
        concept_probs(logits + 0.1, 0.05, bias), p
    )  # a shift of all concepts is nothing
    assert (concept_probs(logits, 0.05) - p).abs().max() > 0.1


def test_logits_are_cosines_in_the_space() -> None:
    z, vectors = 3 * reference.unit(4, 6, 1), reference.unit(5, 6, 2)
    np.testing.assert_allclose(concept_logits(z, vectors).numpy(), reference.cosines(z, vectors), atol=1e-12)
    assert concept_logits(torch.zeros(2, 6), vectors.float()).abs().max() == 0
    with pytest.raises(VidsslError, match=r"\(4, 6\).*D = 3"):
        concept_logits(z, vectors[:, :3])


def test_half_precision_is_computed_in_float32() -> None:
    student = [x.to(torch.bfloat16) for x in cosines(2)]
    teacher = [x.float() for x in targets(2)]
    exact = concept_distillation_loss([x.float() for x in student], teacher, 0.01)
    z, vectors = reference.unit(4, 6, 1).to(torch.bfloat16), reference.unit(5, 6, 2).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = concept_distillation_loss(student, teacher, 0.01)
        logits = concept_logits(z, vectors)
        p = concept_probs(student[0], 0.01)
    assert loss.dtype == logits.dtype == p.dtype == torch.float32
    assert loss.item() == exact.item()
    assert torch.equal(logits, concept_logits(z.float(), vectors))


def test_the_distillation_has_the_form_of_dino() -> None:
    losses = pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    dino = losses.DINOLoss(output_dim=5, student_temp=0.1, center_momentum=0.9).double()
    centre = torch.zeros(5, dtype=torch.float64)
    for step in range(3):
        student, teacher = cosines(4, seed=step), cosines(2, seed=step + 10)
        # A temperature that float32, in which it is kept there, holds exactly.
        expected = dino(teacher, student, teacher_temp=0.0625)
        loss = concept_distillation_loss(student, [concept_probs(x, 0.0625, centre) for x in teacher], 0.1)
        assert loss.item() == pytest.approx(expected.item(), abs=1e-9)
        centre = 0.9 * centre + 0.1 * torch.cat(teacher).mean(dim=0)
        torch.testing.assert_close(dino.center.flatten(), centre)


def test_anchor_cosine() -> None:
    own = [reference.unit(3, 4, seed).requires_grad_() for seed in range(3)]
    anchors = [2 * reference.unit(3, 4, seed + 10) for seed in range(3)]

    def expected(pairs: list[tuple[int, int]]) -> float:
        return float(np.mean([(own[v].detach() * anchors[a]).sum(dim=1).mean().item() / 2 for v, a in pairs]))

    assert anchor_cosine(own, anchors).item() == pytest.approx(expected([(0, 0), (1, 1), (2, 2)]))
    assert anchor_cosine(own, anchors[:2]).item() == pytest.approx(expected([(0, 0), (1, 1)]))
    assert anchor_cosine(own, anchors[:2], (2, 0)).item() == pytest.approx(expected([(2, 0), (0, 1)]))
    assert anchor_cosine(own, [3 * x for x in own]).item() == pytest.approx(1)
    assert torch.autograd.gradcheck(lambda x: anchor_cosine([x], anchors[:1]), (own[0],))
    with pytest.raises(VidsslError, match="anchors of shapes"):
        anchor_cosine(own[:2], anchors)
    with pytest.raises(VidsslError, match=r"\(2, 4\)"):
        anchor_cosine(own, [x[:2] for x in anchors])


def test_mistakes_are_named() -> None:
    student, teacher = cosines(2), targets(2)
    with pytest.raises(VidsslError, match="temperature 0: must be positive"):
        concept_distillation_loss(student, teacher, 0)
    with pytest.raises(VidsslError, match="temperature -1"):
        concept_probs(student[0], -1)
    with pytest.raises(VidsslError, match="at least one of each"):
        concept_distillation_loss(student, [], 0.1)
    with pytest.raises(VidsslError, match="one shape"):
        concept_distillation_loss(student, [x[:, :4] for x in teacher], 0.1)
    with pytest.raises(VidsslError, match=r"teacher_views \[0\] for 2"):
        concept_distillation_loss(student, teacher, 0.1, teacher_views=[0])
    with pytest.raises(VidsslError, match=r"sigma=1.5"):
        concept_alignment_loss((student, student), (teacher, teacher), 0.1, sigma=1.5)
    with pytest.raises(VidsslError, match="category, description"):
        concept_alignment_loss((student, student), teacher, 0.1)
    with pytest.raises(VidsslError, match="category, description"):
        concept_alignment_loss((student,), (teacher,), 0.1)
