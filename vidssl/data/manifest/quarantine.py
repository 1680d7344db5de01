"""Videos that could not be used: one type for them, and the table of a run's, one row a file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

from vidssl.data.ends import CRASHED, SLOW
from vidssl.files import whole_file


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


@dataclass(frozen=True)
class Row:
    """A file in the quarantine.

    Attributes:
        path: as the data folder or list names it, so that it holds wherever that lies. decoder, cause: of the first failure.
        times: clips in which another video took its place; 0 for one left out before the first step.
        first_step, last_step: of these clips, counted from 1; 0 for one left out before the first step.
    """

    path: str
    decoder: str
    cause: str
    times: int
    first_step: int
    last_step: int


class Quarantine:
    """The table of a run, in a CSV file with a header; for one process to write.

    A resumed run repeats the steps since its checkpoint: what is in the table up to a row's last step is not counted again.
    """

    def __init__(self, file: str | Path) -> None:
        self.file = Path(file)
        self.rows: dict[str, Row] = {}
        if self.file.is_file():
            with self.file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
                for path, decoder, cause, *numbers in list(csv.reader(lines))[1:]:
                    self.rows[path] = Row(path, decoder, cause, *map(int, numbers))

    def is_left_out(self, path: str) -> bool:
        """Whether the file was found unreadable before the first step."""
        return path in self.rows and self.rows[path].first_step == 0

    def costs_a_process(self, path: str) -> bool:
        """Whether the file has ended or held up the process that opened it."""
        return path in self.rows and self.rows[path].cause.startswith((CRASHED, SLOW))

    def leave_out(self, videos: Iterable[FailedVideo]) -> None:
        """Enter videos that are not used at all."""
        for video in videos:
            self.rows.setdefault(video.path, Row(video.path, video.decoder, _line(video.reason), 0, 0, 0))

    def count(self, step: int, videos: Iterable[FailedVideo]) -> None:
        """Enter all the videos that were replaced in a step, once for every clip."""
        before = {path: row.last_step for path, row in self.rows.items()}
        for video in videos:
            if step > before.get(video.path, 0):
                new = Row(video.path, video.decoder, _line(video.reason), 0, step, step)
                row = self.rows.get(video.path, new)
                self.rows[video.path] = replace(row, times=row.times + 1, last_step=step)

    def save(self) -> None:
        """Replace the file at once; its folder is created if need be."""
        with (
            whole_file(self.file) as partial,
            partial.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
        ):
            table = csv.writer(file, lineterminator="\n")
            table.writerow(field.name for field in fields(Row))
            table.writerows(astuple(row) for row in self.rows.values())


def _line(text: str) -> str:
    return " ".join(text.split())
