"""One file with the frames of one video: each can be read alone, and whatever is not as it was written is noticed.

The frames lie one after the other. Behind them stand a table with a row for each (time, place, length, 32 bits of XXH3), a JSON
object with what is known of the video, and 24 bytes: a magic word, the number of frames, the length of the JSON and the
CRC-32 of table and JSON.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import xxhash
from numpy.typing import NDArray

from vidssl.data.cache.forms import FORMS, Frame
from vidssl.data.decode.reader import VideoInfo

_MAGIC = b"vidframe"
_END = struct.Struct("<8sQLL")
_ROW = np.dtype([("time", "<f8"), ("place", "<i8"), ("length", "<u4"), ("hash", "<u4")])


class DamagedError(Exception):
    """A file of frames is not as it was written."""


class NoRoomError(Exception):
    """The frames of a video do not fit."""


class Kept(Protocol):
    """The frames of a video that are kept.

    Attributes:
        info, times, backend: as in `VideoReader`, of the frames that are kept.
    """

    info: VideoInfo
    times: NDArray[np.float64]
    backend: str

    def frames(self, indices: NDArray[np.int64]) -> Frame:
        """The frames at `indices`, (len(indices), H, W, 3).

        Raises:
            DamagedError: one of them is not as it was written.
        """

    def close(self) -> None: ...


class Source(NamedTuple):
    """Frames to keep, which are decoded as they are asked for; the rest as in `VideoReader`, of these frames."""

    info: VideoInfo
    backend: str
    times: NDArray[np.float64]
    frames: Iterable[Frame]


def write_entry(file: Path, form: str, source: Source, most: int) -> None:
    """Write the frames of a video; no more than one of them is held at a time.

    Raises:
        NoRoomError: the file would have more than `most` bytes.
    """
    rows = np.zeros(len(source.times), _ROW)
    rows["time"] = source.times
    place = 0
    with file.open("wb") as stream:
        for row, frame in zip(rows, source.frames, strict=True):
            data = FORMS[form].write(frame)
            row["place"], row["length"], row["hash"] = place, len(data), _hash(data)
            place += len(data)
            if place + rows.nbytes > most:
                raise NoRoomError
            stream.write(data)
        head = json.dumps({"form": form, "backend": source.backend, "info": asdict(source.info)}).encode()
        table = rows.tobytes() + head
        stream.write(table + _END.pack(_MAGIC, len(rows), len(head), zlib.crc32(table)))


class Entry:
    """An open file of frames; see `Kept`.

    Raises:
        DamagedError: what stands behind the frames is not as it was written.
        FileNotFoundError: there is no such file.
    """

    def __init__(self, file: Path) -> None:
        self._descriptor: int | None = os.open(file, os.O_RDONLY)
        try:
            self._read_table(os.fstat(self._descriptor).st_size)
        except BaseException:
            self.close()
            raise

    def frames(self, indices: NDArray[np.int64]) -> Frame:
        """See `Kept`."""
        frames = np.empty((len(indices), self.info.height, self.info.width, 3), np.uint8)
        for frame, (_, place, length, expected) in zip(frames, self._rows[indices], strict=True):
            if self._form.read is None:
                data = frame.data.cast("B")
                self._fill(data, int(place))
            else:
                data = memoryview(self._bytes(int(length), int(place)))
            if _hash(data) != expected:
                raise DamagedError
            if self._form.read is not None:
                self._form.read(data, frame)
        return frames

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _read_table(self, size: int) -> None:
        if size < _END.size:
            raise DamagedError
        magic, count, length, crc = _END.unpack(self._bytes(_END.size, size - _END.size))
        length_of_table = count * _ROW.itemsize + length
        if magic != _MAGIC or length_of_table > size - _END.size:
            raise DamagedError
        table = self._bytes(length_of_table, size - _END.size - length_of_table)
        if zlib.crc32(table) != crc:
            raise DamagedError
        self._rows = np.frombuffer(table, _ROW, count)
        head: dict[str, Any] = json.loads(table[count * _ROW.itemsize :])
        self._form, self.backend, self.info = FORMS[head["form"]], head["backend"], VideoInfo(**head["info"])
        self.times = np.ascontiguousarray(self._rows["time"])

    def _bytes(self, length: int, place: int) -> bytes:
        data = bytearray(length)
        self._fill(memoryview(data), place)
        return bytes(data)

    def _fill(self, data: memoryview[int], place: int) -> None:
        assert self._descriptor is not None
        read = 0
        with suppress(OSError):  # a disk that cannot read it any more: the frames are decoded anew
            read = os.preadv(self._descriptor, [data], place)
        if read != data.nbytes:
            raise DamagedError


def _hash(data: bytes | memoryview[int]) -> int:
    # Ten times as fast as zlib's CRC-32, which takes longer than reading a frame does.
    return xxhash.xxh3_64_intdigest(data) & 0xFFFFFFFF
