"""Videos that could not be used: one type for them, and a list that any number of processes may write to at once."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FailedVideo:
    """A video that could not be decoded.

    Attributes:
        video_id: its place among the videos. path: as they name it. reason: why, for a person.
        label: its class, where that is known. decoder: that said so, or that was at work.
    """

    video_id: int
    path: str
    reason: str
    label: str | None = None
    decoder: str = "auto"

    @property
    def record(self) -> dict[str, str]:
        """What a result says of it, as JSON data."""
        return {"path": self.path, "reason": self.reason}


def write_quarantine(path: str | Path, failures: Iterable[FailedVideo]) -> None:
    """Append ``path,reason`` lines to the CSV file at ``path``, creating it and its folder if need be.

    No header, and each line is one write in append mode: on a local file system concurrent writers lose nothing and
    mix nothing.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("ab", buffering=0) as file:
        for video in failures:
            line = io.StringIO()
            csv.writer(line, lineterminator="\n").writerow((video.path, " ".join(video.reason.split())))
            file.write(line.getvalue().encode("utf-8", "surrogateescape"))
