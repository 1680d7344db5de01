"""Loaders of clip batches: nothing in them touches a global random state, and no video ends or holds up a run."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypedDict, Unpack

import torch

from vidssl.data.batch import ClipBatch
from vidssl.data.dataset import ClipDataset, EvalClipDataset
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.videos import VideoDataset
from vidssl.data.workers import Crew, make_batch
from vidssl.errors import VidsslError, check_value


class Workers(TypedDict, total=False):
    """How a loader decodes.

    Attributes:
        num_workers: decoding processes, one thread each, 4 by default. One that dies or takes longer over a video than
            the data set's deadline is replaced (see `vidssl.data.workers`). 0 decodes in this process: without a
            deadline, and a decoder that crashes ends it.
        prefetch_factor: batches every worker prepares ahead, 2 by default.
        pin_memory: None, the default, pins when CUDA is available.
    """

    num_workers: int
    prefetch_factor: int
    pin_memory: bool | None


@dataclass(frozen=True)
class Loader:
    """The batches of `keys`; every iteration starts workers of its own and ends them."""

    dataset: VideoDataset
    keys: Iterable[list[Any]]
    num_workers: int = 4
    prefetch_factor: int = 2
    pin_memory: bool | None = None

    def __post_init__(self) -> None:
        check_value("num_workers", self.num_workers, self.num_workers >= 0, "at least 0")
        check_value("prefetch_factor", self.prefetch_factor, self.prefetch_factor >= 1, "at least 1")

    def __iter__(self) -> Generator[ClipBatch, None, None]:
        pin = torch.cuda.is_available() if self.pin_memory is None else self.pin_memory
        if self.num_workers:
            yield from Crew(self.dataset, self.keys, self.num_workers, self.prefetch_factor, pin).batches()
            return
        for keys in self.keys:
            batch = make_batch(self.dataset, keys)
            yield batch.pin_memory() if pin else batch


def build_loader(dataset: ClipDataset, sampler: GlobalBatchSampler, **workers: Unpack[Workers]) -> Loader:
    """Loader of training batches, each a `ClipBatch` with this process's share of the global batch.

    Raises:
        VidsslError: the sampler is for another data set.
    """
    if len(dataset) != sampler.num_samples:
        raise VidsslError(f"the sampler is for {sampler.num_samples} videos, the data set has {len(dataset)}")
    return Loader(dataset, sampler, **workers)


def build_eval_loader(
    dataset: EvalClipDataset,
    batch_size: int,
    *,
    num_processes: int = 1,
    rank: int = 0,
    **workers: Unpack[Workers],
) -> Loader:
    """Loader of evaluation batches: videos rank, rank + num_processes, ... of the set, none repeated or dropped.

    Args:
        batch_size: videos per batch of THIS process.
    """
    share = range(rank, len(dataset), num_processes)
    return Loader(
        dataset, [list(share[i : i + batch_size]) for i in range(0, len(share), batch_size)], **workers
    )
