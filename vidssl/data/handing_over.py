"""A Python object from one process to another without copying its arrays twice.

It lies in an unnamed file in memory, whose descriptor is sent in one message of one byte: what arrives is whole, whatever
happens to the sender, and no limit of ``/dev/shm`` applies.
"""

from __future__ import annotations

import mmap
import os
import pickle
import tempfile
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import IO, Any

import numpy as np

_ALIGNMENT = 64  # bytes


def hand_over(connection: Connection, value: object) -> None:
    """Send `value`; the other side calls ``take(recv_handle(connection))``.

    Raises:
        OSError: the other side is gone, or there is no memory.
    """
    with _unnamed_file() as file:
        _write(file, _portable(value))
        file.flush()
        send_handle(connection, file.fileno(), 0)


def take(descriptor: int) -> Any:
    """The object in the file behind `descriptor`, which is closed; its arrays stay where they are, and are writable."""
    with os.fdopen(descriptor, "rb") as file:
        memory = memoryview(mmap.mmap(file.fileno(), 0))
    sizes = np.frombuffer(memory, np.int64, 1 + int(np.frombuffer(memory, np.int64, 1)[0]))[1:]
    parts, offset = [], _aligned(8 * (1 + len(sizes)))
    for size in sizes.tolist():
        parts.append(memory[offset : offset + size])
        offset = _aligned(offset + size)
    return pickle.loads(parts[0], buffers=parts[1:])  # noqa: S301 - from our own process


def _write(file: IO[bytes], body: tuple[bytes, list[pickle.PickleBuffer]]) -> None:
    parts: list[memoryview[int]] = [memoryview(body[0]), *(buffer.raw() for buffer in body[1])]
    sizes = np.array([len(parts), *(part.nbytes for part in parts)], np.int64)
    for part in (memoryview(sizes.tobytes()), *parts):
        file.seek(_aligned(file.tell()))
        file.write(part)


def _portable(value: object) -> tuple[bytes, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []
    try:
        return pickle.dumps(value, protocol=5, buffer_callback=buffers.append), buffers
    except Exception:
        if not isinstance(value, Exception):
            raise
        return pickle.dumps(RuntimeError(f"{type(value).__name__}: {value}")), []


def _unnamed_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("vidssl"), "w+b")
    return tempfile.TemporaryFile()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT
