"""DataLoaders over clips: nothing in them touches a global random state."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any, TypedDict, Unpack

import torch
from torch.utils.data import DataLoader, Dataset

from vidssl.data.batch import ClipSample, collate_clips
from vidssl.data.dataset import ClipDataset, EvalClipDataset
from vidssl.data.order import GlobalBatchSampler
from vidssl.errors import VidsslError, check_value

Loader = DataLoader[Any]  # iterates over ClipBatch


class Workers(TypedDict, total=False):
    """How a loader decodes.

    Attributes:
        num_workers: decoding processes, one thread each, 4 by default; 0 decodes in this process.
        prefetch_factor: batches every worker prepares ahead, 2 by default.
        pin_memory: None, the default, pins when CUDA is available.
        timeout: seconds to wait for a batch before failing with a message; 0, the default, waits for ever.
    """

    num_workers: int
    prefetch_factor: int
    pin_memory: bool | None
    timeout: float


def build_loader(dataset: ClipDataset, sampler: GlobalBatchSampler, **workers: Unpack[Workers]) -> Loader:
    """Loader of training batches, each a `ClipBatch` with this process's share of the global batch.

    Raises:
        VidsslError: the sampler is for another data set.
    """
    if len(dataset) != sampler.num_samples:
        raise VidsslError(f"the sampler is for {sampler.num_samples} videos, the data set has {len(dataset)}")
    return _loader(dataset, sampler, training=True, **workers)


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
    batches = [list(share[i : i + batch_size]) for i in range(0, len(share), batch_size)]
    return _loader(dataset, batches, training=False, **workers)


def _loader(
    dataset: Dataset[ClipSample],
    batches: GlobalBatchSampler | Sequence[list[int]],
    *,
    training: bool,
    num_workers: int = 4,
    prefetch_factor: int = 2,
    pin_memory: bool | None = None,
    timeout: float = 0.0,
) -> Loader:
    check_value("num_workers", num_workers, num_workers >= 0, "at least 0")
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate_clips,
        num_workers=num_workers,
        prefetch_factor=prefetch_factor if num_workers else None,
        persistent_workers=training and num_workers > 0,
        pin_memory=torch.cuda.is_available() if pin_memory is None else pin_memory,
        timeout=timeout if num_workers else 0,
        worker_init_fn=_start_training_worker if training else _start_worker,
        # DataLoader draws a seed for its workers; with its own generator it leaves torch's global one alone.
        generator=torch.Generator(),
    )


def _start_worker(worker_id: int) -> None:
    torch.set_num_threads(1)  # decoding and resizing are parallel over workers; more threads only cost CPU


def _start_training_worker(worker_id: int) -> None:
    """Signals that tell a run to stop reach every process of its group, but the last steps still need the workers.

    They end with the process that started them, which they watch, or by `end_workers`.
    """
    _start_worker(worker_id)
    for name in ("SIGTERM", "SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(signal.Signals[name], signal.SIG_IGN)


def end_workers(batches: Any) -> None:
    """End the workers of a loader's iterator, also those that hang, which would not heed a SIGTERM."""
    workers = list(getattr(batches, "_workers", ()))
    if workers:
        batches._shutdown_workers()
    for worker in workers:
        if worker.is_alive():
            worker.kill()
