"""Calibration error against closed forms and a plain count."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.evaluation.answers.calibration import calibration_scores, expected_calibration_error


def by_hand(confidence, right, bins):
    total = 0.0
    for b in range(1, bins + 1):
        inside = (confidence <= b / bins) & ((confidence > (b - 1) / bins) | (b == 1))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    return total


def test_one_confidence_is_its_distance_from_the_accuracy():
    right = torch.tensor([True] * 3 + [False])
    assert expected_calibration_error(torch.full((4,), 0.9), right) == pytest.approx(0.15, abs=1e-7)
    assert expected_calibration_error(torch.full((4,), 0.75), right) == pytest.approx(0, abs=1e-12)
    sure = torch.tensor([1.0, 0.0])  # sure and right, without any confidence and wrong
    assert expected_calibration_error(sure, torch.tensor([True, False])) == 0
    assert expected_calibration_error(sure, torch.tensor([False, True])) == 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 1000))
def test_it_is_the_plain_count_and_at_least_the_gap_of_the_means(videos, bins, seed):
    rng = np.random.default_rng(seed)
    confidence, right = rng.random(videos), rng.random(videos) < 0.5
    found = expected_calibration_error(torch.from_numpy(confidence), torch.from_numpy(right), bins)
    assert found == pytest.approx(by_hand(confidence, right, bins), abs=1e-9)
    assert found >= abs(confidence.mean() - right.mean()) - 1e-12  # equal for one bin
    assert 0 <= found <= 1


def test_what_is_no_probability_is_refused():
    for value in (math.nan, -0.1, 1.1, math.inf):
        with pytest.raises(ValueError):
            expected_calibration_error(torch.tensor([value]), torch.tensor([True]))
    with pytest.raises(ValueError):
        expected_calibration_error(torch.tensor([0.5]), torch.tensor([True, False]))
    assert math.isnan(expected_calibration_error(torch.zeros(0), torch.zeros(0, dtype=torch.bool)))


def test_probabilities_are_the_softmax_of_those_that_got_an_answer():
    scores = torch.tensor([[0.02, 0.01], [0.5, 0.1], [math.nan, 0], [0.3, 0.1]])
    right, ok = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, True])
    found = calibration_scores(scores, right, ok, temperature=0.01)
    first, last = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(-20))
    assert found["confidence"] == pytest.approx((first + last) / 2, abs=1e-6)
    assert found["calibration_error"] == pytest.approx((1 - first + last) / 2, abs=1e-6)
    assert calibration_scores(scores, right, torch.zeros(4, dtype=torch.bool), 0.01) == {}
    assert calibration_scores(scores, right, ok, math.nan) == {}
