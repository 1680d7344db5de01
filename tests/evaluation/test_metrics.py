from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vidssl.evaluation.metrics import classification_scores, majority_scores, wilson_interval


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 2000), st.floats(0, 1))
def test_wilson_equals_scipy(total, share):
    correct = round(share * total)
    reference = binomtest(correct, total).proportion_ci(method="wilson")
    low, high = wilson_interval(correct, total)
    assert low == pytest.approx(reference.low, abs=1e-12)
    assert high == pytest.approx(reference.high, abs=1e-12)


def test_failed_videos_and_unknown_classes_are_wrong_and_counted():
    scores = torch.eye(3)[[0, 1, 2, 0]]
    labels = torch.tensor([0, 1, 2, -1])
    ok = torch.tensor([True, False, True, True])
    result = classification_scores(scores, labels, ok)
    assert (result["correct"], result["total"], result["failed"]) == (2, 4, 1)
    assert result["top1"] == 0.5


def test_constant_scores_earn_nothing():
    result = classification_scores(torch.zeros(10, 8), torch.arange(10) % 8, torch.ones(10, dtype=torch.bool))
    assert result["top1"] == 0 == result["top5"]


def test_top5_and_mean_class_by_hand():
    scores = torch.tensor([[6.0, 5, 4, 3, 2, 1]] * 3)
    result = classification_scores(scores, torch.tensor([0, 4, 5]), torch.ones(3, dtype=torch.bool))
    assert result["top1"] == pytest.approx(1 / 3)
    assert result["top5"] == pytest.approx(2 / 3)
    unbalanced = classification_scores(
        torch.eye(2)[[0, 0, 0, 0]], torch.tensor([0, 0, 0, 1]), torch.ones(4, dtype=torch.bool)
    )
    assert unbalanced["mean_class"] == 0.5


def test_majority_comes_from_the_reference_split():
    assert majority_scores(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))["top1"] == pytest.approx(1 / 3)
