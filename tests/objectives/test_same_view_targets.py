"""No objective pulls a prediction towards a target of its own view, which it could reach without any invariance."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vidssl.models.heads import HeadOutput
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.composite import build_objectives
from vidssl.objectives.concept.losses import concept_distillation_loss


def rows(seed: int) -> Tensor:
    return torch.randn(6, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradient(spec: dict[str, Any], replaced: int) -> Tensor:
    """Of the loss in the prediction of view 0, with the target of view `replaced` exchanged for another."""
    (name,) = spec
    composite, _ = build_objectives({name: {**spec[name], "projector": [8]}}, 4)
    composite.double()
    prediction = rows(0).requires_grad_()
    targets = [rows(9) if view == replaced else rows(2 + view) for view in (0, 1)]
    if composite.needs_teacher:
        student = [HeadOutput(prediction, prediction, None), HeadOutput(rows(1), rows(1), None)]
        teacher = {name: [HeadOutput(targets[view], None, None) for view in (1, 0)]}
    else:
        student = [HeadOutput(targets[0], prediction, None), HeadOutput(targets[1], rows(1), None)]
        teacher = None
    batch = BatchInfo(torch.arange(6), teacher_views=(1, 0))
    composite({name: student}, teacher, batch).loss.backward()
    assert prediction.grad is not None
    return prediction.grad


@pytest.mark.parametrize(
    "spec",
    [
        {"byol": {}},
        {"simsiam": {"last_norm": False}},
        {"dino": {"prototypes": 8}},
        {"ressl": {"queue_size": 16}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_the_target_of_the_own_view_does_not_matter(spec: dict[str, Any]) -> None:
    if "ressl" not in spec:
        pytest.importorskip("lightly.loss", reason="lightly is an optional extra")
    untouched = gradient(spec, replaced=-1)
    torch.testing.assert_close(gradient(spec, replaced=0), untouched, rtol=0, atol=1e-12)
    assert (gradient(spec, replaced=1) - untouched).abs().max() > 1e-4


def test_it_does_for_ssl_hsic_as_published() -> None:
    """The control, and what same_view_pairs is for (hsic/test_same_view.py)."""
    untouched = gradient({"hsic": {"same_view_pairs": True}}, replaced=-1)
    assert (gradient({"hsic": {"same_view_pairs": True}}, replaced=0) - untouched).abs().max() > 1e-4


def test_the_same_for_concept_distillation() -> None:
    logits = [rows(0).requires_grad_(), rows(1)]
    probabilities = [rows(seed).softmax(1) for seed in (2, 3)]
    concept_distillation_loss(logits, [probabilities[0]], 0.1, teacher_views=(1,)).backward()
    gradient_of_the_other = logits[0].grad
    assert gradient_of_the_other is not None
    logits[0].grad = None
    concept_distillation_loss(
        logits, [probabilities[1], probabilities[0]], 0.1, teacher_views=(0, 1)
    ).backward()
    assert logits[0].grad is not None
    # Of the two pairs (view 0, target of 1) and (view 1, target of 0), the first is the only one of view 0.
    torch.testing.assert_close(2 * logits[0].grad, gradient_of_the_other, rtol=0, atol=1e-12)
