"""How far a piece of work is, on standard error: in a terminal a bar, in a log file a line every ten seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Never, Self

from tqdm import tqdm

SECONDS = 10.0  # between two lines of a log file
_LINE = (
    "{desc}: {percentage:.0f}% {n_fmt}/{total_fmt} {unit} [{elapsed}, {remaining} left, {rate_fmt}{postfix}]"
)


class Progress:
    """The progress of one piece of work, shown by the first process alone.

    Args:
        description: of the work.
        total: how many units there are.
        unit: what is counted, such as "video".
        done: how many of them were done before.
        delay: seconds in which nothing is shown, for work that is mostly quick.
        show: False shows nothing.

    Attributes:
        note: shown behind the numbers.
    """

    def __init__(
        self, description: str, total: int, unit: str, *, done: int = 0, delay: float = 0.0, show: bool = True
    ) -> None:
        from vidssl.distributed import rank  # brings torch, which looking at videos does without

        self.shown = show and rank() == 0
        self.done, self._before, self._total = done, done, total
        self._told: tuple[int, str] | None = None
        self._description, self._unit, self._delay, self.note = description, unit, delay, ""
        self._started = self._said = time.monotonic()
        self._bar: tqdm[Never] | None = None
        if self.shown and sys.stderr.isatty():
            self._bar = tqdm(
                total=total, initial=done, desc=description, unit=unit, delay=delay, dynamic_ncols=True
            )

    def update(self, number: int = 1) -> None:
        """So many more units are done."""
        self.done += number
        if self._bar is not None:
            self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(number)
        elif self.shown and time.monotonic() - self._said >= SECONDS:
            self._line()

    def say(self, message: str) -> None:
        """A line on standard output, above the bar."""
        if self._bar is not None:
            self._bar.write(message)
        elif self.shown:
            print(message, flush=True)  # noqa: T201

    def close(self) -> None:
        """The last state stays on the screen or in the file."""
        if self._bar is not None:
            self._bar.close()
        elif (
            self.shown
            and self._told != (self.done, self.note)
            and time.monotonic() - self._started >= self._delay
        ):
            self._line()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> None:
        self._said, self._told = time.monotonic(), (self.done, self.note)
        line = tqdm.format_meter(
            self.done,
            self._total,
            self._said - self._started,
            prefix=self._description,
            unit=self._unit,
            postfix=self.note,
            initial=self._before,
            bar_format=_LINE,
        )
        print(line, file=sys.stderr, flush=True)  # noqa: T201


@contextmanager
def progress_bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (done, total) behind a bar that appears only when there is something to wait for."""
    bars: list[Progress] = []

    def progress(done: int, total: int) -> None:
        if not bars:
            bars.append(Progress(description, total, unit))
        bars[0].update(done - bars[0].done)

    try:
        yield progress
    finally:
        for bar in bars:
            bar.close()
