"""Python objects from one process to another, over files in memory that are used again and again.

An object lies in an unnamed file, whose descriptor is sent in one message of one byte: what arrives is whole, whatever happens
to the sender, and no limit of ``/dev/shm`` applies. Its arrays stay where they are on both sides. Fresh pages of memory
cost several times what filling them does, so that a file whose object is gone on the receiving side is told to the sender,
and filled anew.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import pickle
import tempfile
import weakref
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

_ALIGNMENT = 64  # bytes
_SMALL = 1024  # bytes of an array that is copied rather than given a place of its own
_HEAD = 16  # bytes of a file that tell where the table of its parts lies, and of how many


class Outbox:
    """The sender's files. One is filled at a time: `clear`, `empty` and what else makes the object, `hand_over`."""

    def __init__(self) -> None:
        self._files: dict[int, _File] = {}
        self._free: list[_File] = []
        self._open: _File | None = None

    def clear(self, done: list[int]) -> None:
        """Begin an object; of those handed over, these are `done` with (see `Inbox.done`)."""
        self._free += [self._files[number] for number in done]
        if self._open is None:
            self._open = self._free.pop() if self._free else _File()
            self._files[self._open.number] = self._open
        self._open.clear()

    def empty(self, *shape: int) -> Tensor:
        """A uint8 tensor for the object, which will not be copied.

        Raises:
            OSError: the file would be larger than files may be (EFBIG). MemoryError: there is no memory.
        """
        assert self._open is not None
        place = self._open.place(int(np.prod(shape)))
        return torch.from_numpy(np.frombuffer(place, np.uint8).reshape(shape))

    def hand_over(self, connection: Connection, value: object) -> None:
        """Send the object; the other side calls ``Inbox.take(recv_handle(connection))``.

        Raises:
            OSError, MemoryError: see `empty`; OSError also when the other side is gone.
        """
        assert self._open is not None
        head, buffers = _portable(value)
        self._open.write([memoryview(head), *(buffer.raw() for buffer in buffers)])
        send_handle(connection, self._open.descriptor, 0)
        self._open = None


class Inbox:
    """The receiver's view of what one sender hands over.

    Attributes:
        done: numbers of files whose objects are gone here, for `Outbox.clear`. They are added from any thread.
    """

    def __init__(self) -> None:
        self.done: list[int] = []
        self._memory: dict[int, mmap.mmap] = {}

    def take(self, descriptor: int) -> Any:
        """The object in the file behind `descriptor`, which is closed; its arrays stay where they are, and are writable."""
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            number, size = status.st_ino, status.st_size
            memory = self._memory.get(number)
            if memory is None or len(memory) != size:
                self._memory[number] = memory = mmap.mmap(file.fileno(), size)
        # All arrays hold on to this object, so that its end is theirs.
        lent = (ctypes.c_ubyte * size).from_buffer(memory)
        weakref.finalize(lent, self.done.append, number).atexit = False
        everything = memoryview(lent).cast("B")
        at, count = np.frombuffer(everything, np.int64, 2).tolist()
        table = np.frombuffer(everything, np.int64, 2 * count, at).reshape(count, 2)
        parts = [everything[start:stop] for start, stop in table.tolist()]
        return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - from our own process


class _File:
    """An unnamed file in memory; whatever is placed in it lies behind what was placed before."""

    def __init__(self) -> None:
        self._file = _unnamed()
        self.descriptor = self._file.fileno()
        self.number = os.fstat(self.descriptor).st_ino
        self._memory: memoryview[int] | None = None
        self.clear()

    def clear(self) -> None:
        self._used = _HEAD
        # By their addresses, which nothing else has as long as they are held: where they lie.
        self._placed: dict[int, tuple[int, memoryview[int]]] = {}

    def place(self, size: int) -> memoryview[int]:
        """Bytes of the file."""
        start = -(-self._used // _ALIGNMENT) * _ALIGNMENT
        memory = self._at_least(start + size)
        self._used = start + size
        placed = memory[start : start + size]
        self._placed[_address(placed)] = start, placed
        return placed

    def write(self, parts: list[memoryview[int]]) -> None:
        """All parts of an object; those that lie here already stay."""
        table = np.empty((len(parts), 2), np.int64)
        for row, part in zip(table, parts, strict=True):
            start, _ = self._placed.get(_address(part), (None, None))
            if start is None:
                self.place(part.nbytes)[:] = part
                start = self._used - part.nbytes
            row[:] = start, start + part.nbytes
        self.place(table.nbytes)[:] = memoryview(table.tobytes())
        head = np.array([self._used - table.nbytes, len(parts)], np.int64)
        self._at_least(_HEAD)[:_HEAD] = memoryview(head.tobytes())

    def _at_least(self, size: int) -> memoryview[int]:
        """The memory of the file, which is made larger if it has to be: earlier views of it remain good."""
        if self._memory is None or self._memory.nbytes < size:
            # Somewhat more than that: what comes next may be larger.
            size = -(-(size + size // 8) // mmap.PAGESIZE) * mmap.PAGESIZE
            if not hasattr(os, "posix_fallocate"):
                os.ftruncate(self.descriptor, size)
            else:  # a lack of memory is an error here, and would be a crash where pages are touched
                try:
                    os.posix_fallocate(self.descriptor, 0, size)
                except OSError as error:
                    if error.errno in (errno.ENOMEM, errno.ENOSPC):
                        raise MemoryError from error
                    raise
            self._memory = memoryview(mmap.mmap(self.descriptor, size))
        return self._memory


def _unnamed() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("vidssl"), "w+b")
    return tempfile.TemporaryFile()


def _portable(value: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        if buffer.raw().nbytes < _SMALL:
            return True
        buffers.append(buffer)
        return False

    try:
        return pickle.dumps(value, protocol=5, buffer_callback=is_small), buffers
    except Exception:
        if not isinstance(value, Exception):
            raise
        return pickle.dumps(RuntimeError(f"{type(value).__name__}: {value}")), []


def _address(part: memoryview[int]) -> int:
    return np.frombuffer(part, np.uint8).ctypes.data if part.nbytes else 0  # 0: nowhere
