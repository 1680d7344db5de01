"""Two encoders on the same videos, against scipy and a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from vidssl.evaluation.comparison import (
    compare_to_untrained,
    format_comparison,
    mcnemar_exact,
    paired_comparison,
)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (7, 2), (5, 5), (3, 40), (900, 850)])
def test_mcnemar_is_the_exact_binomial_test(first, second):
    expected = binomtest(first, first + second).pvalue if first + second else 1.0
    assert mcnemar_exact(first, second) == pytest.approx(expected, rel=1e-9)


def test_the_interval_is_that_of_resampled_videos():
    rng = np.random.default_rng(0)
    first, second = rng.random(200) < 0.6, rng.random(200) < 0.45
    found = paired_comparison(torch.from_numpy(first), torch.from_numpy(second))
    assert found["difference"] == pytest.approx(first.mean() - second.mean())
    rows = rng.integers(200, size=(10_000, 200))
    low, high = np.quantile(first[rows].mean(1) - second[rows].mean(1), [0.025, 0.975])
    assert found["interval"] == pytest.approx((low, high), abs=0.011)
    assert found == paired_comparison(torch.from_numpy(first), torch.from_numpy(second))


def test_equal_encoders_differ_by_nothing():
    right = torch.tensor([True, False, True])
    found = paired_comparison(right, right)
    assert found["difference"] == 0 and found["interval"] == (0, 0) and found["p"] == 1


def test_trained_rows_meet_their_untrained_ones():
    yes, no = torch.ones(10, dtype=torch.bool), torch.zeros(10, dtype=torch.bool)
    rows = {"trained, k = 1": yes, "untrained, k = 1": no, "trained, k = 5": yes, "motion energy, k = 1": no}
    found = compare_to_untrained(rows)
    assert list(found) == ["trained, k = 1"]
    assert found["trained, k = 1"]["to"] == "untrained, k = 1"
    line = format_comparison("trained, k = 1", found["trained, k = 1"])
    assert (
        "+100.0 points [+100.0, +100.0], McNemar p = 0.002 (10 videos right only for the first, 0 only"
        in line
    )
