"""Runs one picklable function on N gloo processes of this machine and brings back what each returned."""

from __future__ import annotations

import multiprocessing
import pickle
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist


def run_on_processes(
    function: Callable[..., Any], processes: int, *args: Any, time_limit: float = 60.0
) -> list[Any]:
    """Calls `function(*args)` in `processes` fresh processes joined by a gloo group over a file store.

    Args:
        function: importable from its module (no lambda, no local function).
        processes: the world size; with 1 there is still a group, of one process.
        args: picklable, the same for every process; `torch.distributed.get_rank()` tells the processes apart.
        time_limit: seconds until all processes are killed and TimeoutError is raised.

    Returns:
        What `function` returned on each process, in rank order.

    Raises:
        RuntimeError: with the traceback of the first process that failed; the others are killed.
        TimeoutError: when the processes did not finish in time, as in a deadlock.
    """
    context = _context()
    with tempfile.TemporaryDirectory(prefix="vidssl-gloo-") as folder:
        workers = [
            context.Process(target=_work, args=(function, args, rank, processes, folder, time_limit))
            for rank in range(processes)
        ]
        for worker in workers:
            worker.start()
        try:
            _wait(workers, Path(folder), time_limit)
        finally:
            for worker in workers:
                if worker.is_alive():
                    worker.kill()
                worker.join()
        return [pickle.loads((Path(folder) / f"{rank}.result").read_bytes()) for rank in range(processes)]


def _context() -> Any:
    """A fork server that has imported torch once starts each later process in milliseconds."""
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["torch", "torch.distributed", "einops", "vidssl.objectives.composite"]
        )
        return context
    return multiprocessing.get_context("spawn")


def _wait(workers: list[BaseProcess], folder: Path, time_limit: float) -> None:
    deadline = time.monotonic() + time_limit
    while any(worker.is_alive() for worker in workers):
        if any(not worker.is_alive() and worker.exitcode != 0 for worker in workers):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(workers)} processes did not finish within {time_limit:g} s")
        time.sleep(0.02)
    for rank, worker in enumerate(workers):
        error = folder / f"{rank}.error"
        if error.exists():
            raise RuntimeError(f"process {rank} of {len(workers)} failed:\n{error.read_text()}")
        if not worker.is_alive() and worker.exitcode != 0:
            raise RuntimeError(f"process {rank} of {len(workers)} died with exit code {worker.exitcode}")


def _work(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    rank: int,
    processes: int,
    folder: str,
    time_limit: float,
) -> None:
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder}/store",
            rank=rank,
            world_size=processes,
            timeout=timedelta(seconds=time_limit),
        )
        dist.barrier()  # a process that is done at once must not leave before the others have connected to it
        result = pickle.dumps(function(*args))
        (Path(folder) / f"{rank}.result").write_bytes(result)
        dist.destroy_process_group()
    except BaseException:  # noqa: BLE001 - whatever it was, the parent process reports it
        (Path(folder) / f"{rank}.error").write_text(traceback.format_exc())
        raise SystemExit(1) from None
