"""Alignment of actions with attributes: closed forms, its own gradient, the special case, what it is least at."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tests.objectives.concept import reference
from vidssl.errors import VidsslError
from vidssl.objectives.concept.incidence import (
    attribute_alignment_losses,
    attribute_log_probs,
    attribute_probs,
    attribute_shares,
)
from vidssl.objectives.concept.losses import concept_alignment_loss, concept_probs

# Four actions, three attributes; the last action has none.
INCIDENCE = torch.tensor([[1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 0]], dtype=torch.uint8)
SHARES = attribute_shares(INCIDENCE).double()


def draw(rows: int, width: int, seed: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def losses(
    p_s: Tensor, p_t: Tensor, q_s: Tensor, q_t: Tensor, shares: Tensor = SHARES
) -> tuple[float, float]:
    """Of distributions instead of cosines, at temperature 1."""
    forth, back = attribute_alignment_losses([p_s.log()], [p_t], [q_s.log()], [q_t], shares, 1.0, 1.0)
    return forth.item(), back.item()


def test_shares_are_those_of_the_actions_attributes() -> None:
    expected = [[0.5, 0.5, 0], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 0]]
    np.testing.assert_array_equal(SHARES.numpy(), expected)


def test_both_directions_equal_numpy_loops() -> None:
    student, teacher = [draw(5, 4, s) for s in (0, 1, 2)], [draw(5, 4, s) for s in (3, 4)]
    words, taught = [draw(5, 3, s) for s in (5, 6, 7)], [draw(5, 3, s) for s in (8, 9)]
    p = [concept_probs(x, 0.5) for x in teacher]
    q = [concept_probs(x, 0.7) for x in taught]
    forth, back = attribute_alignment_losses(student, p, words, q, SHARES, 0.3, 0.4)
    w = SHARES.numpy()
    one, other = [], []
    for t in range(2):
        for s in range(3):
            for i in range(5):
                log_q = np.log(reference.softmax(words[s][i].numpy() / 0.4))
                one.append(-sum(p[t][i, k].item() * w[k, m] * log_q[m] for k in range(4) for m in range(3)))
                said = reference.softmax(student[s][i].numpy() / 0.3)
                covered = said[:3].sum()
                mixed = [sum(said[k] * w[k, m] for k in range(4)) / covered for m in range(3)]
                other.append(-sum(q[t][i, m].item() * math.log(mixed[m]) for m in range(3)))
    assert forth.item() == pytest.approx(np.mean(one), abs=1e-12)
    assert back.item() == pytest.approx(np.mean(other), abs=1e-12)


def test_the_identity_gives_the_alignment_of_names_and_descriptions() -> None:
    c, d = [draw(6, 4, s) for s in (0, 1)], [draw(6, 4, s) for s in (2, 3)]
    p, q = ([concept_probs(draw(6, 4, s), 0.5) for s in own] for own in ((4, 5), (6, 7)))
    for sigma in (0.0, 0.4, 1.0):
        forth, back = attribute_alignment_losses(c, p, d, q, torch.eye(4), 0.2, 0.2)
        joined = (forth + sigma * back) / (1 + sigma)
        expected = concept_alignment_loss((c, d), (p, q), 0.2, sigma)
        assert joined.item() == pytest.approx(expected.item(), abs=1e-12)


def test_known_values() -> None:
    sure = torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64).clamp_min(1e-300)
    own = SHARES[:1].clamp_min(1e-300)
    # Action 0 for certain: one choice between its two attributes, both ways.
    assert losses(sure, sure, own, own) == pytest.approx((math.log(2), math.log(2)), abs=1e-12)
    flat_p, flat_q = (torch.full((1, n), 1 / n, dtype=torch.float64) for n in (4, 3))
    mixed = np.array([1 / 6, 2 / 3, 1 / 6])
    expected = (0.75 * math.log(3), -np.log(mixed).mean())
    assert losses(flat_p, flat_p, flat_q, flat_q) == pytest.approx(expected, abs=1e-12)
    # A teacher that is sure of an action without attributes teaches nothing.
    nothing = torch.tensor([[0.0, 0, 0, 1]], dtype=torch.float64)
    assert losses(flat_p, nothing, flat_q, flat_q)[0] == 0


@given(st.integers(0, 10**6))
def test_least_where_both_spaces_say_the_same(seed: int) -> None:
    """Proper: of all predictions the agreeing one has the least cross-entropy, its value being the entropy."""
    p = draw(1, 4, seed).softmax(dim=1)
    agreed = attribute_probs(p, SHARES) / p[:, :3].sum()
    entropy = reference.entropy(agreed[0].numpy())
    forth, back = losses(p, p, agreed, agreed)
    assert back == pytest.approx(entropy, abs=1e-9)
    assert forth == pytest.approx(p[0, :3].sum().item() * entropy, abs=1e-9)
    other_p, other_q = draw(1, 4, seed + 1).softmax(dim=1), draw(1, 3, seed + 2).softmax(dim=1)
    worse = losses(other_p, p, other_q, agreed)
    assert worse[0] >= forth - 1e-12 and worse[1] >= back - 1e-12


def test_agreement_is_a_fixed_point_and_the_column_normalised_form_is_not() -> None:
    logits = torch.tensor([[8.0, 0, 0, 0]], dtype=torch.float64, requires_grad=True)
    p = logits.detach().softmax(dim=1)
    agreed = attribute_probs(p, SHARES) / p[:, :3].sum()
    words = agreed.log().requires_grad_()
    forth, back = attribute_alignment_losses([logits], [p], [words], [agreed], SHARES, 1.0, 1.0)
    (forth + back).backward()
    assert logits.grad is not None and words.grad is not None
    assert logits.grad.abs().max() < 1e-12 and words.grad.abs().max() < 1e-12
    # The control: teaching actions with the attributes' other owners moves a video that all is settled about.
    other = INCIDENCE.double() / INCIDENCE.double().sum(dim=0)
    taught = (agreed @ other.T)[0]
    assert (p[0] - taught).abs().max() > 0.1


def test_gradient_is_prior_minus_posterior() -> None:
    logits = draw(5, 4, 0).requires_grad_()
    q = draw(5, 3, 1).softmax(dim=1)
    _, back = attribute_alignment_losses(
        [logits], [q.new_full((5, 4), 0.25)], [q.log()], [q], SHARES, 0.3, 1.0
    )
    back.backward()
    p = (logits.detach() / 0.3).softmax(dim=1)
    covered = p * torch.tensor([1, 1, 1, 0])
    posterior = p[:, :, None] * SHARES / (p @ SHARES)[:, None]
    expected = covered / covered.sum(dim=1, keepdim=True) - (posterior * q[:, None]).sum(dim=2)
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), (expected / 0.3 / 5).numpy(), atol=1e-12)
    assert logits.grad[:, 3].abs().max() == 0  # an action without attributes is neither taught nor untaught


def test_gradcheck_and_no_gradient_for_the_teacher() -> None:
    student, words = draw(3, 4, 0).requires_grad_(), draw(3, 3, 1).requires_grad_()
    p = draw(3, 4, 2).softmax(dim=1).requires_grad_()
    q = draw(3, 3, 3).softmax(dim=1).requires_grad_()

    def total(a: Tensor, b: Tensor) -> Tensor:
        return sum(attribute_alignment_losses([a], [p], [b], [q], SHARES, 0.5, 0.4))  # type: ignore[return-value]

    assert torch.autograd.gradcheck(total, (student, words))
    total(student, words).backward()
    assert p.grad is None and q.grad is None


def test_far_cosines_stay_finite_in_float32() -> None:
    logits = torch.tensor([[1.0, -1.0, -1.0, 1.0]], requires_grad=True)
    log = attribute_log_probs(logits, 0.01, SHARES)
    assert log[0, 0].item() == pytest.approx(math.log(0.5), abs=1e-6) and torch.isfinite(log).all()
    log.sum().backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert attribute_probs(torch.rand(2, 4).bfloat16(), SHARES).dtype == torch.float32


def test_what_does_not_fit_is_named() -> None:
    p, q = draw(2, 4, 0).softmax(1), draw(2, 3, 0).softmax(1)
    with pytest.raises(VidsslError, match=r"incidence \(4, 3\)"):
        attribute_alignment_losses([q], [p], [q], [q], SHARES, 1.0, 1.0)
    with pytest.raises(VidsslError, match="temperature 0"):
        attribute_alignment_losses([p], [p], [q], [q], SHARES, 0.0, 1.0)
