from __future__ import annotations

import math
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fake_videos import sampler
from vidssl.data.order import GlobalBatchSampler
from vidssl.errors import VidsslError

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40)).filter(lambda p: p[1] <= p[0])


@given(sizes, st.booleans(), st.integers(0, 2**40), st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_resuming_at_any_step_gives_the_tail_of_the_straight_run(
    size: tuple[int, int], drop_last: bool, seed: int, start: int
) -> None:
    straight = list(islice(GlobalBatchSampler(*size, seed=seed, drop_last=drop_last), 35))
    resumed = GlobalBatchSampler(*size, seed=seed, drop_last=drop_last, start_step=start)
    assert list(islice(resumed, 35 - start)) == straight[start:]


@given(st.integers(6, 50), st.integers(1, 3), st.sampled_from([1, 2, 3]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_processes_together_are_one_process(
    num: int, share: int, processes: int, drop_last: bool
) -> None:
    batch = min(share * 6, num // 6 * 6)  # a multiple of 1, 2 and 3
    whole = sampler(num, batch, drop_last=drop_last)
    parts = [
        sampler(num, batch, num_processes=processes, rank=r, drop_last=drop_last) for r in range(processes)
    ]
    for step, *shares in zip(whole, *parts, strict=True):
        assert step == [key for part in shares for key in part]


@given(sizes, st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_an_epoch_shows_every_video_at_most_once_and_with_drop_last_off_exactly_once(
    size: tuple[int, int], seed: int
) -> None:
    num, batch = size
    keys = [
        key for step in islice(GlobalBatchSampler(num, batch, seed=seed), 3 * (num // batch)) for key in step
    ]
    assert len(set(keys)) == len(keys)
    assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)
    assert max(epoch for epoch, _ in keys) == 2
    straight = islice(GlobalBatchSampler(num, batch, seed=seed, drop_last=False), math.ceil(3 * num / batch))
    keys = [key for step in straight for key in step][: 3 * num]
    for epoch in range(3):
        assert sorted(i for e, i in keys if e == epoch) == list(range(num))


@given(st.integers(1, 20), st.integers(1, 4), st.sampled_from([1, 2, 3]), st.booleans(), st.integers(0, 9))
@settings(max_examples=25, deadline=None)
def test_repeats_are_the_plain_order_with_every_video_in_a_row(
    num: int, repeats: int, processes: int, drop_last: bool, start: int
) -> None:
    videos = max(num // processes, 1) * processes  # of a batch
    num = max(num, videos)
    plain = GlobalBatchSampler(num, videos, drop_last=drop_last, start_step=start)
    parts = [
        GlobalBatchSampler(
            num, videos * repeats, processes, rank, drop_last=drop_last, start_step=start, repeats=repeats
        )
        for rank in range(processes)
    ]
    for step, *shares in islice(zip(plain, *parts, strict=True), 8):
        rows = [share[i : i + repeats] for share in shares for i in range(0, len(share), repeats)]
        assert rows == [[(epoch * repeats + r, index) for r in range(repeats)] for epoch, index in step]


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [
        tuple(
            i for step in islice(GlobalBatchSampler(50, 50, seed=seed, start_step=epoch), 1) for _, i in step
        )
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_length_and_epochs_of_the_sampler() -> None:
    assert len(sampler(total_steps=9, start_step=4)) == 5
    with pytest.raises(TypeError, match="never ends"):
        len(sampler(total_steps=None))
    assert [sampler(10, 4).batch(s)[0][0] for s in range(5)] == [0, 0, 1, 1, 2]
    assert [sampler(10, 4, drop_last=False).batch(s)[0][0] for s in range(6)] == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_samples": 3, "batch_size": 4}, "batch_size=4: must lie between 1 and the number of videos, 3"),
        ({"num_samples": 9, "batch_size": 4, "num_processes": 3}, "multiple of the number of processes, 3"),
        ({"num_samples": 9, "batch_size": 4, "num_processes": 2, "rank": 2}, "rank=2"),
        ({"num_samples": 9, "batch_size": 4, "start_step": 5, "total_steps": 4}, "start_step=5"),
        ({"num_samples": 9, "batch_size": 6, "repeats": 4}, "multiple of .* processes, 1, times repeats=4"),
        ({"num_samples": 3, "batch_size": 8, "repeats": 2}, "the number of videos times repeats=2, 6"),
        ({"num_samples": 9, "batch_size": 6, "repeats": 0}, "repeats=0: must be at least 1"),
        ({"num_samples": 9, "batch_size": 4, "seed": -3}, "seed -3"),
    ],
)
def test_impossible_samplers_are_refused(arguments: dict[str, int], text: str) -> None:
    with pytest.raises(VidsslError, match=text):
        GlobalBatchSampler(**arguments)  # type: ignore[arg-type]
