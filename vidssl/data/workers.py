"""Decoding processes under supervision: one that dies or hangs is replaced, and its batch is asked again.

A sample is a function of its key alone, so a batch that is asked again is the same batch. Every process announces the video
it is about to open. A video at which a process crashed or overran the deadline twice in making one batch is added to
`VideoDataset.failed`, and from then on is replaced like any that cannot be decoded. An end that comes from outside (SIGKILL,
as when memory runs out) is never blamed on a video: it is waited out, and if it lasts it is an error.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle
from typing import Any

import torch

from vidssl.data.batch import ClipBatch, room
from vidssl.data.decode.trouble import WAITS, machine_trouble, patiently
from vidssl.data.ends import SLOW, crashed, ended_itself, lost
from vidssl.data.handing_over import Inbox, Outbox
from vidssl.data.videos import VideoDataset
from vidssl.errors import VidsslError

BETWEEN = -1.0  # announced by a process that has no video open
BETWEEN_LIMIT = (
    120.0  # seconds for anything but decoding: starting, padding a batch, waiting for a machine in trouble
)
TOO_LARGE = (
    "a batch is larger than files may be here, and its decoding process could not hand it over: raise the limit (ulimit -f), "
    "or use a smaller train.batch_size"
)
POLL = 0.5  # seconds from one look at the deadlines to the next
CRASHES = (
    "SIGSEGV",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGTRAP",
    "SIGSYS",
)  # signals by one's own fault


@dataclass(eq=False)
class _Task:
    """A batch to be made, and what happened to the processes that were at it."""

    number: int
    keys: list[Any]
    strikes: Counter[int] = field(default_factory=Counter)  # by video
    accidents: int = 0  # that no video is blamed for


@dataclass(eq=False)
class _Worker:
    """A process, the batches it was asked for in order, and its announcement: (video or BETWEEN, since when)."""

    process: BaseProcess
    connection: Connection
    slot: Any
    tasks: list[_Task] = field(default_factory=list)
    asked: float = 0.0
    inbox: Inbox = field(default_factory=Inbox)

    def is_late(self, deadline: float | None) -> bool:
        video, since = self.slot
        limit = BETWEEN_LIMIT if video == BETWEEN else deadline
        return bool(self.tasks) and limit is not None and time.monotonic() - max(since, self.asked) > limit


class Crew:
    """`size` processes that make the batches of `keys`, in order, each at most `ahead` batches before they are asked for.

    Args:
        pin: also move the batches to page-locked memory, in a thread.
    """

    def __init__(
        self, dataset: VideoDataset, keys: Iterable[list[Any]], size: int, ahead: int, pin: bool
    ) -> None:
        self.dataset, self.most = dataset, size * ahead
        self.tasks = (_Task(number, batch) for number, batch in enumerate(keys))
        self.open: dict[int, _Task] = {}
        self.ready: dict[int, ClipBatch | Exception | Future[ClipBatch]] = {}
        self.owner, self.size = os.getpid(), size
        self.workers: list[_Worker] = []
        self.pinning: ThreadPoolExecutor | None = None
        if pin:
            device = torch.cuda.current_device()
            self.pinning = ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(device,))

    def batches(self) -> Iterator[ClipBatch]:
        """The batches.

        Raises:
            VidsslError: when processes keep ending, and whatever making a batch raised, in its turn.
        """
        atexit.register(self.close)  # before multiprocessing's own, which would wait for them
        try:
            self.workers += [self._start() for _ in range(self.size)]
            for number in count():
                self._hand_out()
                self._listen(0.0)
                if number not in self.open and number not in self.ready:
                    return
                while number not in self.ready:
                    self._listen(POLL)
                batch = self.ready.pop(number)
                batch = batch.result() if isinstance(batch, Future) else batch
                if isinstance(batch, Exception):
                    raise batch
                yield batch
        finally:
            self.close()

    def close(self) -> None:
        """End the processes; nothing in them is worth keeping."""
        if os.getpid() != self.owner:  # in a copy of this process
            return
        atexit.unregister(self.close)
        for worker in self.workers:
            _end(worker)
        self.workers.clear()
        if self.pinning is not None:
            self.pinning.shutdown(cancel_futures=True)

    def _hand_out(self) -> None:
        while len(self.open) + len(self.ready) < self.most and (task := next(self.tasks, None)) is not None:
            self.open[task.number] = task
            self._ask(task)

    def _ask(self, task: _Task) -> None:
        worker = min(self.workers, key=lambda one: len(one.tasks))
        worker.tasks.append(task)
        worker.asked = time.monotonic()
        done = worker.inbox.done
        with suppress(OSError):  # it has just died: `_listen` will find it
            worker.connection.send((task.keys, self.dataset.failed, [done.pop() for _ in range(len(done))]))

    def _listen(self, timeout: float) -> None:
        """Take what has been made, at most `timeout` seconds from now, and replace those that died or are late."""
        spoken = wait([worker.connection for worker in self.workers], timeout)
        for worker in list(self.workers):
            if worker.connection in spoken:  # an answer, or the end
                self._receive(worker)
            elif worker.is_late(self.dataset.deadline):
                self._replace(worker, late=True)

    def _receive(self, worker: _Worker) -> None:
        made = None
        with suppress(EOFError, OSError, RuntimeError):
            made = worker.inbox.take(recv_handle(worker.connection))
        if made is None:
            self._replace(worker)
            return
        task = worker.tasks.pop(0)
        worker.asked = time.monotonic()
        del self.open[task.number]
        pinned = isinstance(made, ClipBatch) and self.pinning is not None
        self.ready[task.number] = self.pinning.submit(made.pin_memory) if pinned and self.pinning else made

    def _replace(self, worker: _Worker, late: bool = False) -> None:
        if not late:
            worker.process.join(1.0)  # a moment to die of its own cause
        code = worker.process.exitcode
        video = int(worker.slot[0])
        _end(worker)
        self.workers.remove(worker)
        if worker.tasks:
            self._judge(worker.tasks[0], None if video == BETWEEN else video, None if late else code, late)
        self.workers.append(self._start())
        for task in worker.tasks:
            self._ask(task)

    def _judge(self, task: _Task, video: int | None, code: int | None, late: bool) -> None:
        """Who is to blame for the end of a process: the video in its hands, the second time, or something else."""
        if video is not None and (late or (code is not None and ended_itself(code))):
            task.strikes[video] += 1
            if task.strikes[video] > 1:
                limit = f"{SLOW} the deadline of {self.dataset.deadline:g} s"
                self.dataset.failed[video] = crashed(code) if code is not None else limit
            return
        task.accidents += 1
        if task.accidents > len(WAITS):
            where = "with no video open" if video is None else f"at {self.dataset.videos.path(video)}"
            raise VidsslError(lost(task.accidents, where, code))
        time.sleep(WAITS[task.accidents - 1])

    def _start(self) -> _Worker:
        return patiently(self._fork, self.dataset.videos.path(0))

    def _fork(self) -> _Worker:
        # Forking is quick and needs no main guard in scripts; elsewhere than on Linux it is not safe.
        context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
        ours, theirs = context.Pipe()
        slot = context.Array("d", [BETWEEN, time.monotonic()], lock=False)
        arguments = (self.dataset, theirs, slot, os.getpid())
        process: BaseProcess = context.Process(target=_work, args=arguments, daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours, slot)


def make_batch(
    dataset: VideoDataset, keys: list[Any], empty: Callable[..., torch.Tensor] = room
) -> ClipBatch:
    """The batch of these samples, made in this process.

    Args:
        empty: makes the memory of its frames.

    Raises:
        VidsslError: see `ClipDataset`; also when there is not enough memory.
    """
    try:
        return dataset.batch(keys, empty)
    except (MemoryError, RuntimeError) as error:
        raise machine_trouble(error, dataset.videos.path(0)) or error from error


def _work(dataset: VideoDataset, connection: Connection, slot: Any, parent: int) -> None:
    """Make the batches that are asked for, until the parent ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(
            1, signal.SIGKILL
        )  # PR_SET_PDEATHSIG: not even a hung process outlives its parent
    for name in (
        "SIGINT",
        "SIGTERM",
        "SIGHUP",
        "SIGUSR1",
        "SIGUSR2",
    ):  # of the whole group: the parent decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    gc.freeze()  # what the parent made is not looked through, which would copy its pages too
    torch.set_num_threads(1)  # decoding and resizing are parallel over workers; more threads only cost CPU

    def announce(video_id: int | None) -> None:
        slot[1] = time.monotonic()
        slot[0] = BETWEEN if video_id is None else video_id

    dataset.announce = announce
    outbox = Outbox()
    with suppress(EOFError, OSError):  # the parent is gone
        while True:
            while not connection.poll(5.0):
                if os.getppid() != parent:
                    return
            keys, failed, done = connection.recv()
            dataset.failed = failed
            outbox.clear(done)
            made: ClipBatch | Exception
            try:
                made = make_batch(dataset, keys, outbox.empty)
            except Exception as error:  # noqa: BLE001 - raised again in the parent
                made = VidsslError(TOO_LARGE) if getattr(error, "errno", None) == errno.EFBIG else error
                if not isinstance(made, VidsslError):
                    made.add_note(traceback.format_exc())
            try:
                outbox.hand_over(connection, made)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                outbox.clear([])
                outbox.hand_over(connection, VidsslError(TOO_LARGE))
            del made


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join(5.0)  # one that waits for a disk may take for ever
    worker.connection.close()
