from __future__ import annotations

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.data.mixture import Mixture
from vidssl.data.order import GlobalBatchSampler
from vidssl.errors import VidsslError

sets = st.lists(st.tuples(st.integers(1, 9), st.floats(0.3, 5.0)), min_size=1, max_size=4)


@given(sets, st.integers(0, 2**40))
@settings(max_examples=30, deadline=None)
def test_every_epoch_holds_the_shares_and_every_set_is_shown_evenly(
    rows: list[tuple[int, float]], seed: int
) -> None:
    sizes, weights = zip(*rows, strict=True)
    total = sum(sizes)
    exact = np.array(weights) / sum(weights) * total
    if exact.min() < 1:
        return
    mixture = Mixture.of(sizes, weights)
    assert sum(mixture.shares) == total
    assert (np.abs(np.array(mixture.shares) - exact) < 1).all()
    member = np.repeat(np.arange(len(sizes)), sizes)
    seen: list[tuple[int, int]] = []
    for epoch in range(4):
        visits, index = mixture.epoch(seed, epoch)
        assert np.bincount(member[index], minlength=len(sizes)).tolist() == list(mixture.shares)
        seen += zip(visits.tolist(), index.tolist(), strict=True)
        times = Counter(video for _, video in seen)
        for number in range(len(sizes)):
            own = [times[video] for video in np.flatnonzero(member == number).tolist()]
            assert max(own) - min(own) <= 1
    assert len(set(seen)) == len(seen)  # no clip is drawn from the same numbers as another
    for video in range(total):
        assert sorted(v for v, i in seen if i == video) == list(range(sum(i == video for _, i in seen)))


def test_sets_without_weights_are_one_set() -> None:
    one, two = Mixture.of([7]), Mixture.of([3, 4])
    for epoch in range(3):
        for a, b in zip(one.epoch(5, epoch), two.epoch(5, epoch), strict=True):
            np.testing.assert_array_equal(a, b)
    plain, mixed = (GlobalBatchSampler(7, 3, seed=5, mixture=m, total_steps=9) for m in (None, two))
    assert list(plain) == list(mixed)


def test_orders_differ_between_rounds_sets_and_seeds() -> None:
    mixture = Mixture.of([50, 50], [3.0, 1.0])

    def order(seed: int, epoch: int) -> list[int]:
        return mixture.epoch(seed, epoch)[1].tolist()

    assert order(0, 0) != order(0, 1)
    assert order(0, 0) != order(1, 0)
    first = [i for i in order(0, 0) if i < 50]
    assert len(first) == 75
    assert first[:50] != sorted(first[:50])


@given(st.integers(0, 12), st.sampled_from([1, 2, 3]), st.booleans(), st.sampled_from([1, 2]))
@settings(max_examples=25, deadline=None)
def test_the_mixture_is_exact_on_processes_and_after_a_resume(
    start: int, processes: int, drop_last: bool, repeats: int
) -> None:
    options = {
        "seed": 3, "drop_last": drop_last, "mixture": Mixture.of([5, 14, 4], [5, 1, 2]), "repeats": repeats
    }  # fmt: skip
    straight = list(islice(GlobalBatchSampler(23, 12, **options), 14))
    parts = [
        list(islice(GlobalBatchSampler(23, 12, processes, rank, start_step=start, **options), 14 - start))
        for rank in range(processes)
    ]
    assert [[key for share in step for key in share] for step in zip(*parts, strict=True)] == straight[start:]


def test_a_share_of_nothing_is_refused() -> None:
    with pytest.raises(VidsslError, match=r"data\.train\.1\.weight=0\.001: leaves its set none of the 20"):
        Mixture.of([10, 10], [1.0, 0.001])
    with pytest.raises(VidsslError, match="the mixture is of 7 videos, there are 8"):
        GlobalBatchSampler(8, 2, mixture=Mixture.of([3, 4]))
