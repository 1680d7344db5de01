"""Errors of the true model are white and the test says so as often as it should; errors of others are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.evaluation.dynamics.simulation import ANGLE, RADIUS, rotating_model, simulate
from vidssl.dynamics.recurrent import GaussianPrediction
from vidssl.evaluation.dynamics.bootstrap import resample_counts
from vidssl.evaluation.dynamics.measure import measure_dynamics
from vidssl.evaluation.dynamics.whiteness import measure_whiteness

DRAWS = {}


def whiteness(z, counts=None, lag=1, cov=None):
    """Of errors z (N, T, m) of predictions that are all zero."""
    n, t, m = z.shape
    counts = torch.ones(n, t - lag, dtype=torch.bool) if counts is None else counts
    cov = torch.eye(m, dtype=z.dtype) if cov is None else cov
    prediction = GaussianPrediction(torch.zeros_like(z[:, lag:]), cov.expand(n, t - lag, m, m))
    if n not in DRAWS:
        DRAWS[n] = resample_counts(n, torch.Generator().manual_seed(0))
    return measure_whiteness(z, prediction, counts, lag, DRAWS[n])


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_statistic_is_its_definition_and_takes_no_notice_of_the_stated_covariance():
    z = normal(5, 9, 2) @ normal(2, 2, seed=3)
    z[:, 1:] += 0.4 * z[:, :-1]
    u, expected = z[:, 1:].numpy(), 0.0
    c0 = np.mean([np.outer(x, x) for video in u for x in video], axis=0)
    for h in range(1, 5):
        pairs = [(video[t], video[t + h]) for video in u for t in range(8 - h)]
        c = np.mean([np.outer(a, b) for a, b in pairs], axis=0)
        expected += len(pairs) * np.trace(c.T @ np.linalg.inv(c0) @ c @ np.linalg.inv(c0))
    found = whiteness(z)
    assert found.distances == [1, 2, 3, 4] and found.degrees == 16
    assert found.statistic == pytest.approx(expected, rel=1e-10)
    assert found.p == pytest.approx(stats.chi2(16).sf(expected), rel=1e-9)
    other = whiteness(z, cov=torch.tensor([[4.0, 1.0], [1.0, 2.0]], dtype=torch.float64))
    assert other.statistic == pytest.approx(expected, rel=1e-10)


def test_errors_that_do_not_count_are_nowhere():
    z = normal(6, 10, 2)
    counts = torch.rand(6, 9, generator=torch.Generator().manual_seed(1)) > 0.3
    broken = z.clone()
    broken[:, 1:][~counts] = 1e6
    assert whiteness(broken, counts) == whiteness(z, counts) != whiteness(z)


def test_it_is_chi_square_for_independent_errors():
    """200 simulations of 30 videos of 12 steps: p is uniform, and below 5 % about as often."""
    p = np.array([whiteness(normal(30, 13, 3, seed=s)).p for s in range(200)])
    assert stats.kstest(p, "uniform").pvalue > 1e-3
    assert 0.01 < (p < 0.05).mean() < 0.1


def test_innovations_of_the_true_model_are_white_and_of_others_are_not(sequences):
    right = measure_dynamics(rotating_model(), sequences).whiteness
    assert right.p > 1e-3
    assert all(low < 0 < high for _, (low, high) in right.autocorrelation)
    still = rotating_model()
    still.transition.A.data.mul_(0.2)
    wrong = measure_dynamics(still, sequences).whiteness
    assert wrong.p < 1e-12 and wrong.autocorrelation[0].interval[0] > 0.2
    # Process noise that is too small: the state follows too slowly, and errors of one sign follow each other.
    slow = measure_dynamics(rotating_model(0.003), sequences).whiteness
    assert slow.p < 1e-6


def test_the_autocorrelation_of_a_known_process():
    """z_t = 0.6 z_{t-1} + e: 0.6, 0.36, …, whatever covariance was stated."""
    z = normal(400, 40, 1)
    for t in range(1, 40):
        z[:, t] = 0.6 * z[:, t - 1] + math.sqrt(1 - 0.36) * z[:, t]
    found = whiteness(z, cov=torch.tensor([[7.0]], dtype=torch.float64))
    for h, estimate in enumerate(found.autocorrelation, start=1):
        assert estimate.interval[0] < 0.6**h < estimate.interval[1]
        assert estimate.value == pytest.approx(0.6**h, abs=0.03)


def test_predictions_further_ahead_are_judged_beyond_what_they_share():
    """Errors two steps ahead of the true model overlap: correlated at distance 1, not from 2 on."""
    sequences = simulate(videos=150)
    found = measure_dynamics(rotating_model(), sequences, lag=2).whiteness
    assert found.distances == [2, 3, 4, 5] and found.p > 1e-3
    assert RADIUS * math.cos(ANGLE) > 0.9  # the shared error would be seen
    draws = resample_counts(150, torch.Generator().manual_seed(0))
    two = measure_dynamics(rotating_model(), sequences, lag=2)
    shared = measure_whiteness(
        two.z[:, 1:], two.predictions[1], torch.ones(150, 38, dtype=torch.bool), 1, draws
    )
    assert shared.distances[0] == 1 and shared.p < 1e-6


def test_what_cannot_be_known_is_not_said():
    assert whiteness(normal(5, 2, 3)) is None  # one error a video
    assert whiteness(normal(1, 3, 3)) is None  # two errors of three dimensions
    assert whiteness(torch.zeros(5, 6, 2).double()) is None
