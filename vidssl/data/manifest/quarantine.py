"""Videos that could not be used: one type for them, and a list that any number of processes may write to at once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be decoded.

    Attributes:
        video_id: its place among the videos. path: as they name it. reason: why, for a person.
        label: its class, where that is known.
    """

    video_id: int
    path: str
    reason: str
    label: str | None = None


def write_quarantine(path: str | Path, failures: Iterable[FailedVideo]) -> None:
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
        for video in failures:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow((video.path, " ".join(video.reason.split())))
            os.write(descriptor, line.getvalue().encode("utf-8", "surrogateescape"))
    finally:
        os.close(descriptor)
