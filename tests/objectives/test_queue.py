"""A queue of rows against a list of all of them."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.objectives.queue import RowQueue


@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 7), batches=st.lists(st.integers(1, 10), min_size=1, max_size=5))
def test_queue_keeps_the_latest_rows(size: int, batches: list[int]) -> None:
    queue = RowQueue(size, 2)
    everything: list[Tensor] = []
    for number, n in enumerate(batches):
        rows = torch.randn(n, 2, generator=torch.Generator().manual_seed(number))
        queue.append(rows)
        everything += list(rows)
        kept = everything[-size:]
        assert int(queue.filled.sum()) == len(kept)
        found = {tuple(row.tolist()) for row in queue.rows[queue.filled]}
        assert found == {tuple(row.tolist()) for row in kept}
