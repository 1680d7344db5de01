from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from vidssl.errors import VidsslError
from vidssl.evaluation.metrics import (
    chance_scores,
    classification_scores,
    group_interval,
    majority_scores,
    require_finite,
    wilson_interval,
)


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


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_wrong_and_counted(broken):
    """Nothing is at least as good as a nan, so that it would win; an infinity elsewhere in the row counts as well."""
    labels, ok = torch.tensor([0, 1, 0, 2]), torch.ones(4, dtype=torch.bool)
    result = classification_scores(torch.full((4, 8), broken), labels, ok)
    assert (result["top1"], result["top5"], result["mean_class"], result["not_finite"]) == (0, 0, 0, 4)
    one = torch.eye(3)[labels]
    one[3, 0] = broken
    result = classification_scores(one, labels, ok)
    assert (result["correct"], result["not_finite"], result["failed"]) == (3, 1, 0)


def test_each_class_that_cannot_be_predicted_counts_in_the_mean_over_classes():
    """Classes 2 and 3 have no column: with them the mean is over four classes, of which one is right."""
    labels = torch.tensor([0, 0, 1, 2, 3, 3])
    scores = torch.eye(2)[[0, 0, 0, 0, 1, 0]]
    result = classification_scores(scores, labels, torch.ones(6, dtype=torch.bool))
    assert result["mean_class"] == pytest.approx(1 / 4)
    assert result["top1"] == pytest.approx(1 / 3)


def test_chance_is_less_where_classes_cannot_be_predicted():
    assert chance_scores(torch.tensor([0, 1, 2]), 3)["top1"] == 1 / 3
    assert chance_scores(torch.tensor([0, 1, 2, 3]), 2)["top1"] == 1 / 4


def test_rows_to_learn_from_must_be_finite():
    rows = torch.zeros(5, 2)
    require_finite("probe", rows)
    rows[3, 1] = torch.inf
    with pytest.raises(VidsslError, match="probe: 1 of 5 training rows are not finite, first row 3"):
        require_finite("probe", rows)


def test_majority_comes_from_the_reference_split():
    assert majority_scores(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))["top1"] == pytest.approx(1 / 3)


def test_groups_of_one_have_about_the_interval_of_independent_videos_and_copies_a_wider_one():
    right = torch.arange(200) % 4 > 0
    alone = group_interval(right, torch.arange(200))
    assert alone == pytest.approx(wilson_interval(150, 200), abs=0.01)
    copies = group_interval(right.repeat_interleave(4), torch.arange(200).repeat_interleave(4))
    assert copies == alone
    whole = group_interval(right, torch.arange(200) % 4)  # all of a group right or wrong
    assert whole[1] - whole[0] > 4 * (alone[1] - alone[0])
    scores = torch.stack([right, ~right], 1).double()
    score = classification_scores(
        scores, torch.zeros(200).long(), torch.ones(200).bool(), torch.arange(200) % 4
    )
    assert score["top1_interval"] == whole and score["interval_over"] == "4 groups"
