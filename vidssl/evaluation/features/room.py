"""A folder on a disk with a limit, that any number of processes and runs share: what nobody uses any more makes way."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vidssl.errors import VidsslError, check_value
from vidssl.files import writing

IDLE = 3600.0  # seconds after which a file that is still being written has lost its writer


class Room:
    """A folder of folders of ``*.safetensors``. Where that is reached, files go that nobody has used since before this one was opened,
    the oldest first; what still does not fit is not kept.

    Args:
        folder: created when the first features are kept.
        gigabytes: the most that its files have together.

    Raises:
        VidsslError: the limit is not positive, or the folder cannot be written.
    """

    def __init__(self, folder: str | Path, gigabytes: float) -> None:
        check_value("cache_gigabytes", gigabytes, gigabytes > 0, "above 0")
        self.folder, self.limit, self._since = Path(folder).expanduser(), int(gigabytes * 1e9), time.time()
        there = next(place for place in (self.folder, *self.folder.absolute().parents) if place.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise VidsslError(
                f"{self.folder}: features cannot be kept there: {there} is no folder one may write to"
            )

    @contextmanager
    def space(self, size: int) -> Iterator[bool]:
        """Whether there is room for a file of so many bytes, which is written in the block; nobody else writes meanwhile."""
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with (self.folder / "lock").open("a") as stream:
                _lock(stream.fileno())
                yield self._make_way(size)

    def _make_way(self, size: int) -> bool:
        files = []
        for file in self.folder.glob("*/*.safetensors"):
            with suppress(FileNotFoundError):
                status = file.stat()
                if file.name.startswith("."):  # what a killed writer left
                    if time.time() - status.st_mtime > IDLE:
                        file.unlink(missing_ok=True)
                    continue
                files.append((status.st_mtime, status.st_size, file))
        over = sum(bytes_ for _, bytes_, _ in files) + size - self.limit
        for used, bytes_, file in sorted(files):
            if over <= 0 or used >= self._since:
                break
            with suppress(FileNotFoundError):
                file.unlink()
            over -= bytes_
        return over <= 0


def _lock(descriptor: int) -> None:
    """Wait for the lock of an open file, which closing it lets go; where there are no locks, the limit is less exact."""
    with suppress(ImportError, OSError):
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)
