from __future__ import annotations

import math

import pytest

from vidssl.training.optim import learning_rate


def test_schedule_rises_then_falls_to_the_final_rate():
    rates = [learning_rate(s, 100, base=1.0, warmup=0.1, final=0.01) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == 1.0 == max(rates)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[99] == pytest.approx(0.01)
    middle = 0.01 + 0.99 * (1 + math.cos(math.pi * 0.5)) / 2
    assert rates[54] == pytest.approx(middle)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_very_short_runs_have_finite_rates(total):
    for step in range(total):
        assert 0 < learning_rate(step, total, base=1.0, warmup=0.05, final=1e-6) <= 1.0


def test_short_runs_warm_up_too_unless_told_not_to():
    rates = [learning_rate(s, 40, base=1.0, warmup=0.05, final=0.0) for s in range(40)]
    assert rates[:10] == pytest.approx([(s + 1) / 10 for s in range(10)])
    assert learning_rate(0, 40, base=1.0, warmup=0.0, final=0.0) == 1.0
