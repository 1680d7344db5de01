"""Checkpoints written behind the training's back: a step waits for the copy of what is to be written, not for the disk."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread
from typing import cast

import torch.distributed as dist


class Writer:
    """Writes one checkpoint at a time, in a thread. What it is given may not change any more.

    Args:
        together: whether the writers of all processes write each its part, and have to hear of each other. Every process has to
            make one then.

    Attributes:
        group: in which they do so: not that of the training, whose collectives go on meanwhile.
    """

    def __init__(self, together: bool = False) -> None:
        self.group = cast(dist.ProcessGroup, dist.new_group(backend="gloo")) if together else None
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
        self._wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def close(self) -> None:
        """Wait, and leave mistakes to those that were made before."""
        self._wait()
        if self.group is not None:
            dist.destroy_process_group(self.group)
            self.group = None

    def _wait(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self, write: Callable[[], object]) -> None:
        try:
            write()
        except BaseException as error:  # noqa: BLE001  # a thread has nobody else to tell it
            self._error = error
