"""The list of videos that could not be used, which any number of processes may write to at once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol


class BadVideo(NamedTuple):
    """A video that cannot be decoded: its path as in the index, why, and its label."""

    path: str
    reason: str
    label: str | None = None


class Failed(Protocol):
    """Anything that names a video and says what was wrong with it, a `BadVideo` for one."""

    @property
    def path(self) -> str: ...
    @property
    def reason(self) -> str: ...


def write_quarantine(path: str | Path, bad: Iterable[Failed]) -> None:
    """Append ``path,reason`` lines to the CSV file at ``path``, creating it and its folder if need be.

    No header, and each line is one write in append mode: on a local file system concurrent writers lose nothing and
    mix nothing.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        for video in bad:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow((video.path, " ".join(video.reason.split())))
            os.write(descriptor, line.getvalue().encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)
