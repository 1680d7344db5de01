"""A process for every piece of work: one that crashes, hangs or is killed takes nothing along but itself."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

import torch

from vidssl.data.ends import SLOW, crashed
from vidssl.errors import VidsslError

Job = TypeVar("Job")
Answer = TypeVar("Answer")
TRIES = 2


@dataclass
class _Running:
    place: int
    process: BaseProcess
    connection: Connection
    alive: float  # when it last said so


def in_processes(
    work: Callable[[Job, Callable[[], None]], Answer], jobs: Sequence[Job], workers: int, patience: float
) -> Iterator[tuple[int, Answer | str]]:
    """`work(job, alive)` of every job, so many at a time, each in a process of its own; in order of completion.

    Args:
        work: calls `alive()` from time to time.
        patience: seconds without such a call after which a process is ended.

    Yields:
        Place of the job, and the answer or the reason why there is none: twice its process crashed or hung.

    Raises:
        VidsslError: as `work` raises it.
    """
    tries, waiting = [0] * len(jobs), list(range(len(jobs)))[::-1]
    running: list[_Running] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(work, jobs, waiting.pop()))
            wait([one.connection for one in running], 1.0)
            for one in list(running):
                said, end = _listen(one, patience)
                if said is None and not end:
                    continue
                running.remove(one)
                _end(one)
                if isinstance(said, VidsslError):
                    raise said
                tries[one.place] += 1
                if said is not None:
                    yield one.place, said[0]
                elif tries[one.place] < TRIES:
                    waiting.append(one.place)
                else:
                    yield one.place, end
    finally:
        for one in running:
            _end(one)


def _start(work: Callable[..., Any], jobs: Sequence[Any], place: int) -> _Running:
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, jobs[place], theirs), daemon=True)
    process.start()
    theirs.close()
    return _Running(place, process, ours, time.monotonic())


def _listen(one: _Running, patience: float) -> tuple[Any, str]:
    """What a process answered, in a tuple, or an error, else None; and how it ended without an answer, if it did."""
    try:
        while one.connection.poll():
            said = one.connection.recv()
            one.alive = time.monotonic()
            if said is not None:
                return said, ""
    except (EOFError, OSError):
        one.process.join(5.0)
        return None, crashed(one.process.exitcode or 0)
    if time.monotonic() - one.alive > patience:
        return None, f"{SLOW} {patience:g} s over a few frames"
    return None, ""


def _end(one: _Running) -> None:
    one.process.kill()
    one.process.join(5.0)
    one.connection.close()


def _work(work: Callable[..., Any], job: Any, connection: Connection) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it does not outlive its parent
    torch.set_num_threads(1)
    last = time.monotonic()

    def alive() -> None:
        nonlocal last
        if time.monotonic() - last > 1.0:
            last = time.monotonic()
            connection.send(None)

    with suppress(OSError, KeyboardInterrupt):
        try:
            connection.send((work(job, alive),))
        except VidsslError as error:
            connection.send(error)
