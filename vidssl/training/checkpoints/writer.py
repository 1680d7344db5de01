"""Checkpoints written behind the training's back: a step waits for the copy of what is to be written, not for the disk."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread


class Writer:
    """Writes one checkpoint at a time, in a thread. What it is given may not change any more."""

    def __init__(self) -> None:
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written."""
        return self._error is not None

    def begin(self, write: Callable[[], object]) -> None:
        """Write when the checkpoint before this one is written.

        Raises:
            VidsslError: when that one could not be.
        """
        self.finish()
        self._thread = Thread(target=self._run, args=(write,), name="checkpoint")
        self._thread.start()

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            VidsslError: when it could not be.
        """
        self.close()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Wait, and leave mistakes to those that were made before."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell it
            self._error = error
