"""A planted shift of the labels is named with its offset; what is none is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.evaluation.answers.suspicion import (
    Shift,
    _deviations,
    chance_agreement,
    label_shift,
    probe_suspicions,
    suspicions,
)


def answers(rng, labels, classes, accuracy):
    guess = rng.integers(classes, size=len(labels))
    return np.where(rng.random(len(labels)) < accuracy, labels, guess)


@pytest.mark.parametrize(("classes", "accuracy"), [(2, 0.7), (3, 0.6), (6, 0.5), (101, 0.3), (400, 0.6)])
@pytest.mark.parametrize("offset", [0, 1, -1])
def test_a_planted_shift_is_named(classes, accuracy, offset):
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(classes), max(2, 300 // classes))
    given = answers(rng, labels, classes, accuracy)
    listed = (labels - offset) % classes  # the list says so, the encoder sees the truth
    found = label_shift(listed.tolist(), given.tolist(), classes)
    if offset == 0:
        assert found is None
    else:
        assert found == Shift(offset % classes, int((given == labels).sum()), int((given == listed).sum()))


def test_deviations_are_those_of_the_permutation_distribution():
    rng = np.random.default_rng(1)
    labels, given, classes = rng.integers(4, size=60), rng.choice(4, p=[0.6, 0.2, 0.1, 0.1], size=60), 4
    draws = np.array(
        [np.bincount((rng.permutation(given) - labels) % classes, minlength=classes) for _ in range(20_000)]
    )
    matches = np.bincount((given - labels) % classes, minlength=classes)
    expected = (matches - draws.mean(0)) / draws.std(0)
    found = _deviations(matches, *(np.bincount(x, minlength=classes) for x in (labels, given)))
    np.testing.assert_allclose(found, expected, atol=0.05)


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10_000))
def test_one_answer_for_all_and_random_answers_are_no_shift(classes, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=200)
    assert label_shift(labels.tolist(), [0] * 200, classes) is None
    assert label_shift(labels.tolist(), rng.integers(classes, size=200).tolist(), classes) is None


def test_two_classes_taken_for_others_are_no_shift():
    """Of ten classes two are always taken for their neighbour and the rest are guessed."""
    labels = np.repeat(np.arange(10), 20)
    given = np.where(labels < 2, labels + 1, np.random.default_rng(0).integers(10, size=200))
    assert label_shift(labels.tolist(), given.tolist(), 10) is None
    wider = np.where(labels < 7, labels + 1, given)
    assert label_shift(labels.tolist(), wider.tolist(), 10).offset == 1


def test_nothing_to_judge_is_no_shift():
    assert label_shift([], [], 5) is None
    assert label_shift([0, 1], [-1, -1], 2) is None
    assert label_shift([0, 0], [0, 0], 1) is None
    assert label_shift([7, 8, 7], [0, 1, 0], 3) is None  # classes that cannot be answered


def test_chance_and_shift_are_lines():
    score = {"top1": 0.2, "top1_interval": (0.1, 0.3)}
    [line] = suspicions("trained", score, 0.25, None, 4)
    assert "trained: 20.0 % cannot be told from chance (a class drawn at random: 25.0 %)" in line
    assert suspicions("trained", {"top1": 0.5, "top1_interval": (0.4, 0.6)}, 0.25, None, 4) == []
    [line] = suspicions("trained", score, 0.01, Shift(3, 40, 2), 100)
    assert "shifted by 3 in the list of 100 classes: 40 answers fit the class 3 further down, 2 the" in line
    assert suspicions("trained", {"top1": 1.0, "top1_interval": (0.5, 1.0)}, 1.0, None, 1) == []


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 60), st.integers(0, 10_000))
def test_chance_agreement_is_the_mean_over_random_orders(classes, total, seed):
    rng = np.random.default_rng(seed)
    truth, answered = rng.integers(classes, size=total), rng.integers(-1, classes, size=total)
    every = np.mean(
        [np.mean(truth == np.roll(answered, turn)) for turn in range(total)]
    )  # every pair as often
    assert chance_agreement(truth.tolist(), answered.tolist()) == pytest.approx(every)


def test_a_probe_of_one_answer_is_at_the_chance_of_that_answer():
    truth = [0] * 70 + [1] * 20 + [2] * 10
    score = {"top1": 0.7, "top1_interval": (0.6, 0.78)}
    [line] = probe_suspicions("trained", score, truth, [0] * 100, 3)
    assert (
        "cannot be told from chance (the same answers in random order: 70.0 %): few videos, labels that do not belong to their videos"
        in line
    )
    assert probe_suspicions("trained", score, truth, truth, 3) == []


def test_a_shift_up_the_list_is_said_both_ways():
    labels = np.repeat(np.arange(23), 8)
    score = {"top1": 0.0, "top1_interval": (0.0, 0.02)}
    [line] = probe_suspicions("trained", score, labels.tolist(), ((labels - 1) % 23).tolist(), 23)
    assert "shifted by 22 (or 1 the other way round) in the list of 23 classes: 184 answers fit" in line
    assert "are the labels of training and test numbered alike?" in line
