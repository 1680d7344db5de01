"""Objects from one process to another, here both ends in one: what is kept stays as it was, and what is dropped makes room."""

from __future__ import annotations

import gc
from multiprocessing import Pipe
from multiprocessing.reduction import recv_handle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.data.handing_over import Inbox, Outbox


class Way:
    """From an outbox to an inbox."""

    def __init__(self) -> None:
        self.there, self.here = Pipe()
        self.outbox, self.inbox = Outbox(), Inbox()

    def begin(self) -> None:
        self.outbox.clear([self.inbox.done.pop() for _ in range(len(self.inbox.done))])

    def send(self, value: object) -> Any:
        self.outbox.hand_over(self.there, value)
        return self.inbox.take(recv_handle(self.here))

    def carry(self, size: int, number: int) -> dict[str, Any]:
        """An object of `size` bytes in place, twice as many that are not, and some small ones."""
        self.begin()
        place = self.outbox.empty(size // 4, 4).fill_(number)
        other = np.full(2 * size, number, np.int16)
        return self.send({"place": place.numpy(), "other": other, "small": np.arange(number), "none": None})  # type: ignore[no-any-return]


def is_whole(got: dict[str, Any], size: int, number: int) -> bool:
    return (
        got["place"].shape == (size // 4, 4)
        and bool((got["place"] == number).all())
        and got["other"].shape == (2 * size,)
        and bool((got["other"] == number).all())
        and got["small"].tolist() == [*range(number)]
        and got["none"] is None
    )


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([4, 400, 40_000, 400_000]), st.integers(0, 3)), max_size=12))
def test_what_is_kept_stays_as_it_was_whatever_comes_later(steps: list[tuple[int, int]]) -> None:
    way, kept = Way(), []
    for number, (size, keep) in enumerate(steps):
        kept.append((way.carry(size, number), size, number))
        assert all(is_whole(*one) for one in kept)
        kept = kept[-keep:] if keep else []
    # Never more files than were held at a time, and the one that is filled.
    most = max((min(keep, i + 1) for i, (_, keep) in enumerate(steps)), default=0)
    assert len(way.outbox._files) <= most + 1


def test_any_part_that_is_left_keeps_all_of_it() -> None:
    way = Way()
    row: Tensor = torch.from_numpy(way.carry(40_000, 7)["place"])[3, 1:]
    for number in range(3):
        way.carry(40_000, number)
    assert row.tolist() == [7, 7, 7]
    assert len(way.outbox._files) == 2
    del row
    gc.collect()
    way.begin()
    assert len(way.outbox._free) == 1


def test_arrays_stay_in_place_and_can_be_written() -> None:
    way = Way()
    way.begin()
    sent = way.outbox.empty(100_000)
    got = way.send((sent.numpy(), np.zeros(9)))
    sent[5] = 77  # the same memory
    assert got[0][5] == 77
    got[0][:], got[1][:] = 1, 2
    assert sent.unique().tolist() == [1]


def test_a_tensor_outlives_the_growth_of_its_file() -> None:
    way = Way()
    way.begin()
    first = way.outbox.empty(5_000).fill_(3)
    second = way.outbox.empty(5_000_000).fill_(4)  # in a larger mapping of the same file
    got = way.send((first.numpy(), second.numpy(), first[10:2000].numpy()))
    assert [int(part.sum()) for part in got] == [15_000, 20_000_000, 3 * 1990]


def test_what_cannot_be_sent_is_told_of() -> None:
    class OddError(Exception):
        def __init__(self) -> None:
            super().__init__("odd")
            self.reason = lambda: None

    way = Way()
    way.begin()
    got = way.send(OddError())
    assert (type(got), str(got)) == (RuntimeError, "OddError: odd")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_descriptors_are_as_many_as_files() -> None:
    way = Way()
    way.carry(4_000, 1)
    gc.collect()
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(50):
        way.carry(4_000, number)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before
