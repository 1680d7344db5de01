"""A watch on the clock of a step: one that outlives its deadline is named, with process, phase and videos, while it still hangs.

It says so and ends nothing: what hangs may be a disk, a collective that waits for another process, or only a step that is slow. Every
process speaks for itself, since the first may be the one that waits.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Self

NAMED = 3  # videos in what is said; a batch has many


def _to_stderr(message: str) -> None:
    sys.stderr.write(f"vidssl: {message}\n")
    sys.stderr.flush()


class Watchdog:
    """The phase that a step is in, and a thread that looks at the clock.

    Args:
        seconds: of a step, with the waiting for its batch; None watches nothing.
        rank: of this process.
        say: told one line for each deadline that passes while the same step is at work.

    Attributes:
        step: at work, counted from 1; -1 for none. phase: that it is in. videos: of its batch.
    """

    def __init__(
        self, seconds: float | None = None, rank: int = 0, say: Callable[[str], None] = _to_stderr
    ) -> None:
        self.seconds, self.rank, self._say = seconds, rank, say
        self.phase, self.videos = "", list[str]()
        self.step, self._since, self._told = -1, time.monotonic(), 0
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.seconds is not None:
            self._thread = threading.Thread(target=self._look, daemon=True, name="watchdog")
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def begin(self, step: int) -> None:
        """A step begins with waiting for its batch; what was before is over."""
        self.step, self._told, self._since = step, 0, time.monotonic()
        self.at("waiting for the batch", ())

    def at(self, phase: str, videos: Sequence[str] | None = None) -> None:
        """The step goes on with a phase, and with other videos if any are given."""
        self.phase = phase
        if videos is not None:
            self.videos = list(videos)

    def rest(self) -> None:
        """What follows is no step: a checkpoint, or an evaluation, which may take its time."""
        self.step = -1

    def _look(self) -> None:
        assert self.seconds is not None
        while not self._ended.wait(min(self.seconds / 4, 1.0)):
            lasted = time.monotonic() - self._since
            if self.step >= 0 and lasted > (self._told + 1) * self.seconds:
                self._told = int(lasted / self.seconds)
                self._say(self._line(lasted))

    def _line(self, lasted: float) -> str:
        more = f" and {len(self.videos) - NAMED} more" if len(self.videos) > NAMED else ""
        shown = f"; videos {', '.join(self.videos[:NAMED])}{more}" if self.videos else ""
        return (
            f"process {self.rank}: step {self.step} has taken {lasted:,.0f} s, more than train.step_deadline={self.seconds:g}: "
            f"{self.phase}{shown}"
        )
