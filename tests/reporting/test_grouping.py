from __future__ import annotations

import numpy as np
import pytest
import torch

from vidssl.reporting.grouping import cluster_count, silhouettes, tightness


def blobs(spread, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.eye(3, 6)
    return torch.cat([centre + spread * torch.randn(9, 6, generator=generator) for centre in centres])


@pytest.mark.parametrize("labels", [[0, 0, 1, 1, 1, 2, 0, 2, 1], [0, 0, 0, 0, 1, 0, 0, 0, 0]])
def test_silhouettes_are_rousseeuws(labels):
    rows, labels = np.random.default_rng(0).normal(size=(9, 4)), np.array(labels)
    for i, found in enumerate(silhouettes(rows, labels)):
        far = np.linalg.norm(rows - rows[i], axis=1)
        own = [far[j] for j in range(9) if labels[j] == labels[i] and j != i]
        others = [far[labels == k].mean() for k in {*labels.tolist()} - {labels[i]}]
        wanted = 0.0 if not own else (min(others) - np.mean(own)) / max(min(others), np.mean(own))
        assert abs(found - wanted) < 1e-9


def test_silhouettes_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rows, labels = np.random.default_rng(1).normal(size=(30, 4)), np.arange(30) % 4
    assert np.allclose(silhouettes(rows, labels), metrics.silhouette_samples(rows, labels), atol=1e-9)


def test_one_cluster_and_equal_rows_are_neither_tight_nor_loose():
    assert not silhouettes(np.ones((4, 2)), np.zeros(4, dtype=int)).any()
    assert not silhouettes(np.ones((4, 2)), np.array([0, 0, 1, 1])).any()


def test_clusters_that_are_there_are_tighter_than_their_control_and_noise_is_not():
    there = tightness(blobs(0.05), 3)
    assert there.mean > 0.8 and there.mean > there.shuffled + 0.3
    noise = tightness(torch.randn(60, 24, generator=torch.Generator().manual_seed(0)), 3)
    assert abs(noise.mean - noise.shuffled) < 0.03


@pytest.mark.parametrize(
    ("labels", "count"),
    [
        ([None] * 8, 2),  # one cluster would say nothing
        ([None] * 20, 4),
        ([None] * 100, 8),
        (["a"] * 9, 2),
        (["a", "b", "c"] * 3, 3),
        ([None], 1),
    ],
)
def test_there_are_as_many_clusters_as_classes_else_two_or_more(labels, count):
    assert cluster_count(labels) == count
