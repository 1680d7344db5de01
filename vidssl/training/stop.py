"""Stopping when asked to: the batch systems of clusters send SIGTERM or SIGUSR1 a while before they kill, people SIGINT.

In the loop the step at hand is finished and a checkpoint written. Before it there is nothing to save, and the run ends.
Signals are only handled in the main thread, the only one that Python tells of them; elsewhere they keep their meaning.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vidssl.errors import Stopped
from vidssl.runs import CONFIG

FROM_SYSTEMS = ("SIGTERM", "SIGUSR1")
Handler = Callable[[int, Any], None]


class StopRequest:
    """Whether a run has been asked to stop."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self._name, self._since = "", 0.0

    def anywhere(self, failed: bool = False) -> bool:
        """Whether any process has been asked, or has `failed` at something that all have to hear of. Every process has to call this after the same steps, and all of them get
        the same answer."""
        if self._accelerator.num_processes == 1:
            return bool(self._name) or failed
        if self._name or failed:
            self._accelerator.set_trigger()
        return bool(self._accelerator.check_trigger())

    @property
    def origin(self) -> str:
        """By which signal and how long ago, where it was this process that was asked."""
        return f", {time.monotonic() - self._since:.1f} s after {self._name}" if self._name else ""

    def ask(self, number: int, _: Any = None) -> None:
        """Handle a signal. A second SIGINT ends the process, even one that waits inside a library."""
        if not self._name:
            self._name, self._since = signal.Signals(number).name, time.monotonic()
        if number == signal.SIGINT:
            # torch's launcher hands on the SIGINT that the terminal has sent to every process already.
            launched = "TORCHELASTIC_RUN_ID" in os.environ
            signal.signal(signal.SIGINT, signal.SIG_IGN if launched else signal.SIG_DFL)
            if self._accelerator.is_main_process:
                os.write(2, b"\nvidssl: stopping after this step; interrupt again to end at once\n")


@contextmanager
def stop_on_signal(accelerator: Accelerator) -> Iterator[StopRequest]:
    """A block in which SIGTERM, SIGUSR1 and SIGINT ask the run to stop after the step at hand."""
    request = StopRequest(accelerator)
    with _handling((*FROM_SYSTEMS, "SIGINT"), request.ask):
        yield request


@contextmanager
def end_on_signal(folder: Path) -> Iterator[None]:
    """A block without anything to save: SIGTERM and SIGUSR1 end it.

    Raises:
        Stopped: then.
    """

    def end(number: int, _: Any) -> None:
        begun = (folder / CONFIG).is_file()
        then = (
            f"continue with `vidssl pretrain {folder / CONFIG} --resume`"
            if begun
            else "nothing is begun, start the run again"
        )
        raise Stopped(f"stopped before the first step by {signal.Signals(number).name}; {then}")

    with _handling(FROM_SYSTEMS, end):
        yield


@contextmanager
def _handling(names: tuple[str, ...], handler: Handler) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.Signals[name] for name in names if hasattr(signal, name)]
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
