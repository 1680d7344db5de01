"""Confusion matrix and table of classes, counted by hand and against scikit-learn."""

from __future__ import annotations

import math

import numpy as np
import torch
from sklearn.metrics import confusion_matrix as reference

from vidssl.evaluation.answers.confusion import answers_of, class_rows, confusion_matrix, names_of
from vidssl.evaluation.metrics import correct_rows


def test_answers_count_ties_and_broken_videos_as_the_accuracy_does():
    scores = torch.tensor([[2.0, 1, 0], [1, 1, 0], [0, 0, 0], [math.nan, 1, 0], [0, 1, 2], [0, 3, 0]])
    labels, ok = torch.tensor([0, 0, 1, 0, 2, 3]), torch.tensor([True] * 4 + [False, True])
    found = answers_of(scores, labels, ok)
    assert found.tolist() == [0, 1, 0, -1, -1, 1]
    assert (found == labels).equal(correct_rows(scores, labels, ok))


def test_the_matrix_is_scikit_learns_and_its_last_column_is_no_answer():
    rng = np.random.default_rng(0)
    truth, answered = rng.integers(5, size=200), rng.integers(5, size=200)
    counts = confusion_matrix(truth.tolist(), answered.tolist(), 5)
    np.testing.assert_array_equal(counts[:, :5], reference(truth, answered, labels=range(5)))
    assert counts[:, 5].sum() == 0
    counts = confusion_matrix([0, 1, 3], [-1, 1, 0], 2)  # class 3 cannot be answered
    assert counts.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 0], [1, 0, 0]]


def test_a_class_is_named_with_what_it_is_taken_for():
    counts = confusion_matrix([0, 0, 0, 0, 1, 3], [0, 1, 1, -1, 1, 1], 3)
    first, second, third, unknown = class_rows(counts, ["run", "walk", "sit", "fly"])
    assert first[:4] == ("run", 4, 1, 0.25) and first.low < 0.25 < first.high
    assert (first.taken_for, first.times, first.no_answer) == ("walk", 2, 1)
    assert (second.answered, second.precision, second.taken_for) == (4, 0.25, "")
    assert third.videos == 0 and math.isnan(third.accuracy) and math.isnan(third.precision)
    assert (unknown.right, unknown.answered, unknown.taken_for) == (0, 0, "walk")
    assert names_of({"names": ["a"], "unknown": {"b": 2}}) == ["a", "b"]
