"""The doubts of the true model are right, those of others are not."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from tests.evaluation.dynamics.simulation import rotating_model
from vidssl.evaluation.dynamics.calibration import chi_square_cdf, ks_distance
from vidssl.evaluation.dynamics.measure import measure_dynamics


def test_the_true_model_is_calibrated(sequences):
    found = measure_dynamics(rotating_model(), sequences).calibration
    count = len(found.nis)
    assert count == 60 * (39 - 3)
    # Innovations of the true model are independent, so plain standard errors hold; the variance of χ²_m is 2m.
    assert abs(found.mean_nis.value - 2) < 4 * math.sqrt(4 / count)
    for p, estimate in found.coverage.items():
        assert abs(estimate.value - p) < 4 * math.sqrt(p * (1 - p) / count)
        assert estimate.interval[0] < p < estimate.interval[1]
    assert found.ks < 1.63 / math.sqrt(count)  # the 1 % point
    assert found.ks == pytest.approx(stats.kstest(found.nis.numpy(), stats.chi2(2).cdf).statistic, abs=1e-12)


@pytest.mark.parametrize(("process_noise", "nis"), [(0.003, "more"), (30.0, "less")])
def test_a_wrong_process_noise_is_found_out(sequences, process_noise, nis):
    found = measure_dynamics(rotating_model(process_noise), sequences).calibration
    low, high = found.mean_nis.interval
    assert low > 2.2 if nis == "more" else high < 1.8
    assert found.ks > 5 * 1.63 / math.sqrt(len(found.nis))
    low, high = found.coverage[0.9].interval
    assert high < 0.9 if nis == "more" else low > 0.9


def test_one_number_says_by_how_much_covariances_are_too_small(sequences):
    """With every covariance of the true model divided by c the right ones are c times as large."""
    model = rotating_model()
    model.log_scale = torch.nn.Parameter(torch.tensor(-math.log(4.0)))
    found = measure_dynamics(model, sequences).calibration
    right = measure_dynamics(rotating_model(), sequences).calibration.covariance_scale
    assert right.interval[0] < 1 < right.interval[1]
    assert found.covariance_scale.value == pytest.approx(4 * right.value, rel=1e-6)
    assert found.covariance_scale.value == pytest.approx(found.mean_nis.value / 2)


def test_the_true_model_has_the_better_likelihood(sequences):
    right, *wrong = (
        measure_dynamics(rotating_model(q), sequences).calibration.log_likelihood.value
        for q in (0.3, 0.003, 30.0)
    )
    assert right > max(wrong)


def test_chi_square_and_ks_are_scipys():
    x = torch.linspace(0.01, 40, 50, dtype=torch.float64)
    for dim in (1, 2, 8, 16):
        np.testing.assert_allclose(chi_square_cdf(x, dim), stats.chi2(dim).cdf(x.numpy()), rtol=1e-10)
    pit = torch.rand(333, generator=torch.Generator().manual_seed(0)).double() ** 1.3
    assert ks_distance(pit) == pytest.approx(stats.kstest(pit.numpy(), "uniform").statistic, abs=1e-12)
