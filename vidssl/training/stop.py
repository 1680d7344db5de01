"""Stopping when asked to: the batch systems of clusters send SIGTERM a while before they kill."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from accelerate import Accelerator


@contextmanager
def stop_on_signal(accelerator: Accelerator) -> Iterator[Callable[[], bool]]:
    """Gives a function that says, after a step, whether any process has been sent a SIGTERM since the block began.

    Every process has to call it after the same steps, so that all of them stop together.
    """
    asked = False

    def ask(*_: object) -> None:
        nonlocal asked
        asked = True

    def asked_anywhere() -> bool:
        if asked:
            accelerator.set_trigger()
        return bool(accelerator.check_trigger())

    previous = signal.signal(signal.SIGTERM, ask)
    try:
        yield asked_anywhere
    finally:
        signal.signal(signal.SIGTERM, previous)
