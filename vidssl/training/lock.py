"""One run at a time writes to a run folder: a lock that the kernel lets go when its holder dies, however it dies."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from pathlib import Path

from vidssl.errors import VidsslError
from vidssl.files import writing

LOCK = (
    "run.lock"  # in a run folder; while the lock is held it names the holder, afterwards it reads as before
)
_held: set[int] = set()  # file descriptors


class FolderLock:
    """The right to write to a run folder.

    Where the file system knows no locks, or the platform has none, nothing is held and nobody refused.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / LOCK
        self._descriptor: int | None = None
        self._before, self._times = b"", (0, 0)
        self._identity = (0, 0)

    def take(self, create: bool = False) -> None:
        """Hold the lock, if it is not held already.

        Args:
            create: the folder and the file where they are not there yet; without, nothing is held then.

        Raises:
            VidsslError: when another run holds it, naming host and process, or the file cannot be written.
        """
        if self._descriptor is not None or not (create or self.file.is_file()):
            return
        with writing(self.file):
            if create:
                self.folder.mkdir(parents=True, exist_ok=True)
            # Not inherited by programs that are started, and let go below by processes that are forked.
            descriptor = os.open(self.file, os.O_RDWR | (os.O_CREAT if create else 0), 0o666)
        try:
            _lock(descriptor)
        except BlockingIOError:
            holder = os.read(descriptor, 1000).decode(errors="replace").strip()
            os.close(descriptor)
            raise VidsslError(
                f"output: {self.folder}: another run is writing to this folder ({holder or 'it has not said which'}); "
                "wait for it, end it, or choose another folder"
            ) from None
        _let_go_in_children()
        _held.add(descriptor)
        self._descriptor, self._before = descriptor, os.read(descriptor, 1000)
        status = os.fstat(descriptor)
        self._times = (status.st_atime_ns, status.st_mtime_ns)
        self._identity = self._folder_now()
        with writing(self.file):
            self._write(f"host {socket.gethostname()}, process {os.getpid()}\n".encode())

    def check(self) -> None:
        """Insist that the folder is still the one that was locked.

        Raises:
            VidsslError: when it has vanished, or another stands in its place.
        """
        if self._descriptor is not None and self._folder_now() != self._identity:
            raise VidsslError(
                f"{self.folder}: the run folder has vanished or was replaced while the run wrote to it; nothing more is written"
            )

    def release(self) -> None:
        """Let go, if the lock is held."""
        if self._descriptor is None:
            return
        with suppress(OSError):
            self._write(self._before)
            os.utime(self._descriptor, ns=self._times)
        _held.discard(self._descriptor)
        os.close(self._descriptor)
        self._descriptor = None

    def _write(self, content: bytes) -> None:
        assert self._descriptor is not None
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, content, 0)

    def _folder_now(self) -> tuple[int, int]:
        try:
            status = self.folder.stat()
        except OSError:
            return (-1, -1)
        return status.st_dev, status.st_ino


def is_held(folder: Path) -> bool:
    """Whether a run is writing to the folder; changes nothing."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        _lock(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _lock(descriptor: int) -> None:
    """Raises BlockingIOError when another holds it."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except (ImportError, OSError):
        pass


@cache
def _let_go_in_children() -> None:
    """A forked process, such as a decoding worker that outlives its parent for a while, shares a lock: it must not."""

    def close() -> None:
        for descriptor in _held:
            os.close(descriptor)
        _held.clear()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
