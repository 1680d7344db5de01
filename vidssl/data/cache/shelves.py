"""Where decoded frames are kept: in the memory of a process, or in a folder that several processes share.

Neither ever holds more than its limit, and nothing makes room for anything: with videos that are asked for in turn, making
room would throw away what is needed next. What does not fit is decoded every time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vidssl.data.cache.entry import DamagedError, Entry, Kept, NoRoomError, Source, write_entry
from vidssl.data.cache.forms import FORMS, Frame
from vidssl.data.decode.reader import VideoInfo
from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.files import whole_file, writing

IDLE = 3600.0  # seconds after which a file that is still being written has lost its writer


class Shelf(Protocol):
    """Where frames are kept under names.

    Attributes:
        form: how, one of `FORMS`.
    """

    form: str

    def find(self, name: str) -> Kept | None:
        """What is kept under a name; what is damaged is thrown away."""

    def keep(self, name: str, source: Source) -> bool:
        """Keep frames; whether there was room. Whatever decoding raises is raised."""

    def throw_away(self, name: str) -> None:
        """Keep this no longer."""


@dataclass
class _InMemory:
    info: VideoInfo
    times: NDArray[np.float64]
    backend: str
    whole: Frame

    def frames(self, indices: NDArray[np.int64]) -> Frame:
        return self.whole[indices]

    def close(self) -> None:
        """Nothing is open."""


class MemoryShelf:
    """Frames as they are, in the memory of this process; every decoding process fills its own.

    Args:
        gigabytes: the most that it holds.
    """

    form = "raw"

    def __init__(self, gigabytes: float) -> None:
        self.room = int(gigabytes * 1e9)
        self._kept: dict[str, _InMemory] = {}

    def find(self, name: str) -> _InMemory | None:
        """See `Shelf`."""
        return self._kept.get(name)

    def keep(self, name: str, source: Source) -> bool:
        """See `Shelf`."""
        info = source.info
        if (size := info.num_frames * info.height * info.width * 3) > self.room:
            return False
        frames = np.stack(list(source.frames))
        self.room -= size
        self._kept[name] = _InMemory(info, source.times, source.backend, frames)
        return True

    def throw_away(self, name: str) -> None:
        """See `Shelf`."""
        if (kept := self._kept.pop(name, None)) is not None:
            self.room += kept.whole.nbytes


class FolderShelf:
    """Frames in files of a folder, one for each video; any number of processes and runs may share it.

    A file is there whole or not at all. Before the first is written, and where the folder is over its limit then, those go
    that have not been used for longest.

    Args:
        folder: created when the first frames are kept.
        form: "raw" or "jpeg", see `FORMS`.
        gigabytes: the most that its files have together.

    Raises:
        VidsslError: the form is unknown, the limit is not positive, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, form: str, gigabytes: float) -> None:
        check_choice("form of kept frames", form, FORMS)
        check_value("gigabytes", gigabytes, gigabytes > 0, "above 0")
        self.folder, self.form, self.limit = Path(folder).expanduser(), form, int(gigabytes * 1e9)
        self._used: set[str] = set()
        self._is_tidy = False
        there = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise VidsslError(
                f"{self.folder}: frames cannot be kept there: {there} is no folder one may write to"
            )

    def find(self, name: str) -> Entry | None:
        """See `Shelf`."""
        file = self._file(name)
        try:
            entry = Entry(file)
        except FileNotFoundError:
            return None
        except DamagedError:
            self.throw_away(name)
            return None
        if name not in self._used:
            with suppress(OSError):
                file.touch()
            self._used.add(name)
        return entry

    def keep(self, name: str, source: Source) -> bool:
        """See `Shelf`; a disk that takes no more is one without room."""
        if not self._is_tidy:
            self._tidy()
        file = self._file(name)
        try:
            with self._total() as total:
                room = self.limit - total.bytes
            with whole_file(file, durable=False) as partial:
                write_entry(partial, self.form, source, room)
                size = partial.stat().st_size
                with self._total() as total:
                    if not file.exists():  # else another process was faster
                        if total.bytes + size > self.limit:
                            raise NoRoomError
                        total.bytes += size
        except NoRoomError:
            return False
        except VidsslError as error:
            if type(error) is VidsslError and isinstance(error.__cause__, OSError):
                return False
            raise
        return True

    def throw_away(self, name: str) -> None:
        """See `Shelf`."""
        file = self._file(name)
        with suppress(FileNotFoundError), self._total() as total:
            size = file.stat().st_size
            file.unlink()
            total.bytes -= size

    def _file(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.frames"

    def _tidy(self) -> None:
        """Remove files that are too many, and what killed writers left; count the rest."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._total() as total:
                for partial in self.folder.glob("??/.*.partial"):
                    with suppress(FileNotFoundError):
                        if time.time() - partial.stat().st_mtime > IDLE:
                            partial.unlink()
                files = [(file, file.stat()) for file in self.folder.glob("??/*.frames")]
                total.bytes = sum(status.st_size for _, status in files)
                for file, status in sorted(files, key=lambda pair: pair[1].st_mtime_ns):
                    if total.bytes <= self.limit:
                        break
                    file.unlink()
                    total.bytes -= status.st_size
        self._is_tidy = True

    @contextmanager
    def _total(self) -> Iterator[_Total]:
        """How many bytes all files have, which nobody else changes meanwhile."""
        with (self.folder / "total").open("a+", encoding="ascii") as stream:
            _lock(stream.fileno())
            stream.seek(0)
            said = stream.read()
            total = _Total(int(said) if said.isdecimal() else 0)
            yield total
            if said != (now := str(max(total.bytes, 0))):
                stream.truncate(0)
                stream.write(now)


@dataclass
class _Total:
    bytes: int


def _lock(descriptor: int) -> None:
    """Wait for the lock of an open file, which closing it lets go; where there are no locks, the limit is less exact."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
