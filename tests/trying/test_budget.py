from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.trying.budget import Costs, fit


def test_what_fits_is_left_as_it_is():
    found = fit(Costs(0.1, 0.5), train=40, val=20, draws=3, steps=200, minutes=5)
    assert found[:4] == (40, 20, 3, 200)
    assert found.seconds == pytest.approx((40 * 4 * 0.1, 100, 2 * 60 * 0.1))
    assert found.in_words().startswith(
        "about 2.1 minutes from here: 0.3 for features of 40 videos in 4 draws, 1.7 for 200 steps"
    )


def test_first_draws_then_steps_then_videos_are_given_up():
    def of(minutes):
        return fit(Costs(0.1, 0.5), train=400, val=200, draws=3, steps=200, minutes=minutes)

    assert of(5.7)[:4] == (400, 200, 2, 200)
    assert of(4)[:4] == (400, 200, 1, 80)
    less = of(2)
    assert less.draws == 1 and less.steps == 50 and 8 <= less.train < 400
    assert less.val == pytest.approx(less.train / 2, abs=1)
    assert of(0.01)[:4] == (8, 8, 1, 50)


@settings(max_examples=50, deadline=None)
@given(
    st.floats(1e-3, 10),
    st.floats(1e-3, 10),
    st.integers(5, 10_000),
    st.integers(0, 5000),
    st.floats(0.01, 100),
)
def test_it_takes_no_longer_than_asked_unless_there_is_no_less(clip, step, train, val, minutes):
    found = fit(Costs(clip, step), train, val, 3, 200, minutes)
    assert 1 <= found.train <= train and found.val <= val and bool(found.val) == bool(val)
    least = fit(Costs(clip, step), train, val, 3, 200, 1e-9)
    # Videos come whole, and a few of them are held out however little time there is.
    assert found.total <= 60 * minutes * 1.001 + 2 * 8 * clip or found == least
