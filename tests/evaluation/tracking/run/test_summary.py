from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from vidssl.evaluation.tracking.run.summary import difference, summarise

UNITS = {
    "a": [{"J": 0.2, "F": 0.4}, {"J": 0.4, "F": 0.6}],
    "b": [{"J": 0.9, "F": 0.1}],
    "c": [{"J": 0.5, "F": 0.5}],
}


def test_the_mean_is_over_objects() -> None:
    record = summarise(UNITS, ("J", "F"))
    assert record["mean"] == pytest.approx({"J": 0.5, "F": 0.4}) and record["objects"] == 4
    assert record["sequences"]["a"] == pytest.approx({"J": 0.3, "F": 0.5})


def test_the_interval_is_that_of_resampled_sequences() -> None:
    """All 27 resamples of three sequences, enumerated; an object never leaves its sequence."""
    sums, counts = np.array([0.6, 0.9, 0.5]), np.array([2, 1, 1])
    means = [sums[list(draw)].sum() / counts[list(draw)].sum() for draw in product(range(3), repeat=3)]
    low, high = summarise(UNITS, ("J", "F"))["interval"]["J"]
    assert (low, high) == pytest.approx((min(means), max(means)))  # each is one of 27, so beyond 2.5 %


def test_one_sequence_has_no_interval_and_none_no_mean() -> None:
    assert summarise({"a": UNITS["a"]}, ("J",))["interval"] == {}
    empty = summarise({}, ("J",))
    assert empty["mean"] == {} and empty["objects"] == 0


def test_a_difference_is_resampled_in_pairs() -> None:
    """A constant gain has no uncertainty, however much the sequences differ."""
    better = {name: [{"J": s["J"] + 0.1, "F": s["F"]} for s in own] for name, own in UNITS.items()}
    record = difference(better, UNITS, "J")
    assert record["difference"] == pytest.approx(0.1)
    assert record["interval"] == pytest.approx([0.1, 0.1])
    assert difference({"b": UNITS["b"]}, {"b": UNITS["b"]}, "J")["interval"] is None


def test_sequences_that_only_one_has_do_not_count() -> None:
    record = difference(UNITS, {"b": [{"J": 0.8}], "a": []}, "J")
    assert record["difference"] == pytest.approx(0.1) and not math.isnan(record["difference"])
