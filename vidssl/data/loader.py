"""DataLoaders over clips: nothing in them touches a global random state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from vidssl.data.batch import collate_clips
from vidssl.data.dataset import ClipDataset, EvalClipDataset
from vidssl.data.order import GlobalBatchSampler
from vidssl.errors import VidsslError

Loader = DataLoader[Any]  # iterates over ClipBatch


def build_loader(
    dataset: ClipDataset,
    sampler: GlobalBatchSampler,
    *,
    num_workers: int = 4,
    prefetch_factor: int = 2,
    pin_memory: bool | None = None,
    timeout: float = 0.0,
) -> Loader:
    """Loader of training batches, each a `ClipBatch` with this process's share of the global batch.

    Args:
        num_workers: decoding processes, one thread each; 0 decodes in this process.
        prefetch_factor: batches every worker prepares ahead.
        pin_memory: None pins when CUDA is available.
        timeout: seconds to wait for a batch before failing with a message; 0 waits for ever.
    """
    if len(dataset) != sampler.num_samples:
        raise VidsslError(f"the sampler is for {sampler.num_samples} videos, the data set has {len(dataset)}")
    return _loader(
        dataset, num_workers, prefetch_factor, pin_memory, timeout, batch_sampler=sampler, persistent=True
    )


def build_eval_loader(
    dataset: EvalClipDataset,
    batch_size: int,
    *,
    num_processes: int = 1,
    rank: int = 0,
    num_workers: int = 4,
    prefetch_factor: int = 2,
    pin_memory: bool | None = None,
    timeout: float = 0.0,
) -> Loader:
    """Loader of evaluation batches: videos rank, rank + num_processes, ... of the set, none repeated or dropped.

    Args:
        batch_size: videos per batch of THIS process.
    """
    share = range(rank, len(dataset), num_processes)
    batches = [list(share[i : i + batch_size]) for i in range(0, len(share), batch_size)]
    return _loader(
        dataset, num_workers, prefetch_factor, pin_memory, timeout, batch_sampler=batches, persistent=False
    )


def _loader(
    dataset: ClipDataset | EvalClipDataset,
    num_workers: int,
    prefetch_factor: int,
    pin_memory: bool | None,
    timeout: float,
    *,
    batch_sampler: GlobalBatchSampler | Sequence[list[int]],
    persistent: bool,
) -> Loader:
    if num_workers < 0:
        raise VidsslError(f"num_workers={num_workers}: must be at least 0")
    return DataLoader(
        dataset,
        batch_sampler=batch_sampler,
        collate_fn=collate_clips,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        persistent_workers=persistent and num_workers > 0,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        timeout=timeout if num_workers else 0,
        worker_init_fn=_start_worker,
        # DataLoader draws a seed for its workers; with its own generator it leaves torch's global one alone.
        generator=torch.Generator(),
    )


def _start_worker(worker_id: int) -> None:
    torch.set_num_threads(1)  # decoding and resizing are parallel over workers; more threads only cost CPU
