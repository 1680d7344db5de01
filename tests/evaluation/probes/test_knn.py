from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.evaluation.probes.knn import knn, knn_accuracy, knn_scores


def brute_force(train, labels, test, k, classes, temperature):
    train = train / np.linalg.norm(train, axis=1, keepdims=True)
    test = test / np.linalg.norm(test, axis=1, keepdims=True)
    predictions = []
    for row in test:
        similarity = train @ row
        votes = np.zeros(classes)
        for neighbour in np.argsort(-similarity)[:k]:
            votes[labels[neighbour]] += np.exp(similarity[neighbour] / temperature)
        predictions.append(votes.argmax())
    return np.array(predictions)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.floats(0.03, 1.0))
def test_equals_brute_force(seed, k, temperature):
    rng = np.random.default_rng(seed)
    train, test = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(11, 5)).astype(np.float32)
    labels = rng.integers(4, size=30)
    scores = knn_scores(
        torch.from_numpy(train), torch.from_numpy(labels), torch.from_numpy(test), k, 4, temperature, chunk=3
    )
    expected = brute_force(train, labels, test, min(k, 30), 4, temperature)
    assert (scores.argmax(1).numpy() == expected).mean() > 0.99


def test_class_missing_in_train_is_wrong_and_chance_is_chance():
    train = torch.eye(2)
    assert knn_accuracy(train, torch.tensor([0, 1]), torch.eye(2), torch.tensor([0, 5]), k=1) == 0.5


def test_what_is_not_finite_earns_nothing():
    train, labels = torch.eye(3), torch.arange(3)
    test = torch.eye(3).index_fill(0, torch.tensor([0]), torch.nan)
    assert knn_accuracy(train, labels, test, labels, k=1) == pytest.approx(2 / 3)
    assert knn_scores(train, labels, test, 1, 3)[0].isnan().all()
    with pytest.raises(VidsslError, match="1 of 3 training rows are not finite"):
        knn_accuracy(test, labels, train, labels, k=1)


def test_bad_k_is_an_error_before_anything_is_loaded():
    with pytest.raises(VidsslError, match="k=0: must be at least 1"):
        knn("nowhere", "nowhere", "nowhere", k=(5, 0))
    with pytest.raises(VidsslError, match="temperature=0"):
        knn("nowhere", "nowhere", "nowhere", temperature=0)


def test_bad_k_is_an_error():
    with pytest.raises(ValueError, match="k = 0"):
        knn_scores(torch.eye(2), torch.tensor([0, 1]), torch.eye(2), 0, 2)
