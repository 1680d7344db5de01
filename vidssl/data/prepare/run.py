"""Preparing a whole data set: in parallel, resumable, and without losing anything to a file that is broken.

What has been done stands in ``prepared.jsonl`` of the new folder, a line for each source; a clip's file is there whole or not
at all. Told to prepare into the same folder again, only what is missing, failed or changed is done.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.part import Part, PartReader
from vidssl.data.decode.pyav_reader import PyAVReader
from vidssl.data.decode.reader import DecodeError, Indices, VideoReader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.prepare.form import Clip, Form, write_clip
from vidssl.data.prepare.pieces import Split
from vidssl.data.prepare.processes import in_processes
from vidssl.errors import VidsslError, check_value
from vidssl.files import writing
from vidssl.progress import Progress

LOG, LIST = "prepared.jsonl", "videos.csv"
PATIENCE = 300.0  # seconds for opening a file or a few frames, on a machine that is busy


@dataclass(frozen=True)
class Prepared:
    """What became of a data set.

    Attributes:
        list: the ``path,label`` list of the prepared clips. clips: of it, in order. bad: sources without any.
        source_bytes: of the files that were prepared. done_before: sources that needed no work.
    """

    list: Path
    clips: tuple[Clip, ...]
    bad: tuple[FailedVideo, ...]
    source_bytes: int
    done_before: int

    @property
    def psnr(self) -> float:
        """Mean over clips, dB."""
        finite = [clip.psnr for clip in self.clips if math.isfinite(clip.psnr)]
        return float(np.mean(finite)) if finite else math.inf

    @property
    def record(self) -> dict[str, Any]:
        """As JSON data."""
        size = sum(clip.bytes for clip in self.clips)
        return {
            "clips": len(self.clips), "bytes": size, "source_bytes": self.source_bytes, "psnr": self.psnr,
            "bad": [video.record for video in self.bad],
        }  # fmt: skip


@dataclass(frozen=True)
class _Job:
    source: Path
    part: Part | None
    folder: Path
    stem: str  # of the files to write, below the folder
    form: Form
    split: Split


def prepare(
    index: VideoIndex,
    folder: str | Path,
    form: Form | None = None,
    split: Split | None = None,
    *,
    workers: int = 2,
    progress: bool = True,
) -> Prepared:
    """Write all videos of an index anew below `folder`, at the paths that they have below their root.

    Raises:
        VidsslError: the folder lies where the sources do, is in use by another process, or cannot be written.
    """
    check_value("workers", workers, workers >= 1, "at least 1")
    folder, form, split = Path(folder), form or Form(), split or Split()
    if folder.resolve() == Path(index.root).resolve():
        raise VidsslError(f"{folder}: is where the videos come from; choose another folder")
    for name in {*index.labels, *index.groups} - {None}:
        if len((name or "").splitlines()) > 1:
            raise VidsslError(
                f"{name!r}: a label or group with a line break, which the list of the clips cannot hold"
            )
    stems = _stems(index)
    jobs = [_Job(index.path(i), index.part(i), folder, stems[i], form, split) for i in range(len(index))]
    with _log(folder) as log:
        known = _known(log)
        rows = [_done(known.get(job.stem), job) for job in jobs]
        todo = [i for i, row in enumerate(rows) if row is None]
        with Progress(
            "preparing videos", len(jobs), "video", done=len(jobs) - len(todo), show=progress
        ) as bar:
            for place, answer in in_processes(_prepare, [jobs[i] for i in todo], workers, PATIENCE):
                i = todo[place]
                rows[i] = {**_mark(jobs[i]), **(answer if isinstance(answer, dict) else {"error": answer})}
                log.write(json.dumps(rows[i]) + "\n")
                log.flush()
                bar.update()
        return _finish(index, folder, [row or {} for row in rows], len(jobs) - len(todo))


def _prepare(job: _Job, alive: Callable[[], None]) -> dict[str, Any]:
    """The clips of one source, or the reason why there are none."""
    written: list[Path] = []
    clips = []
    try:
        with PyAVReader(job.source) as video:
            whole = video if job.part is None else PartReader(video, job.part)
            offset = 0.0 if job.part is None else job.part.start
            watched = _Watched(whole, alive)
            pieces = job.split.pieces(watched)
            for first, stop in pieces:
                is_all = len(pieces) == 1 and job.part is None
                name = job.stem if is_all else f"{job.stem}_{offset + watched.times[first]:09.3f}"
                written.append(job.folder / f"{name}.mp4")
                clip = write_clip(written[-1], f"{name}.mp4", watched, first, stop, job.form)
                clips.append(asdict(replace(clip, start=clip.start + offset, stop=clip.stop + offset)))
        return {"clips": clips, "error": None}
    except DecodeError as error:
        for file in written:
            file.unlink(missing_ok=True)
        return {"clips": [], "error": error.reason}


class _Watched(VideoReader):
    """A video that says after every frame that it is well."""

    def __init__(self, video: VideoReader, alive: Callable[[], None]) -> None:
        self.path, self.backend, self.info, self.times = video.path, video.backend, video.info, video.times
        self._video, self._alive = video, alive

    def each(self, indices: Indices) -> Iterator[NDArray[np.uint8]]:
        for frame in self._video.each(indices):
            yield frame
            self._alive()

    def _decode(self, wanted: NDArray[np.int64]) -> NDArray[np.uint8]:
        return self._video.frames(wanted)

    def close(self) -> None:
        """What was opened elsewhere is closed there."""


def _stems(index: VideoIndex) -> list[str]:
    """Where the clips of each source go, without ending: where it lies below its root, and no two at the same place.

    A line break in a name, which the list of the clips cannot hold, becomes a blank.
    """
    stems: list[str] = []
    taken: dict[str, str] = {}  # stem -> file
    for i in range(len(index)):
        file = PurePosixPath(index.file(i))
        inner = PurePosixPath(
            *(" ".join(part.splitlines()) for part in file.parts if part not in ("/", ".."))
        )
        tries = chain(
            [inner.with_suffix(""), inner], (inner.with_name(f"{inner.name}_{n}") for n in count(2))
        )
        stem = next(str(t) for t in tries if taken.setdefault(str(t).lower(), str(file)) == str(file))
        stems.append(stem if (part := index.part(i)) is None else f"{stem}_to_{part.stop:09.3f}")
    return stems


def _mark(job: _Job) -> dict[str, Any]:
    """By what one knows that a source has been prepared: its place, size and time of change, and how it was to be done."""
    try:
        status = job.source.stat()
        stamp = [status.st_size, status.st_mtime_ns]
    except OSError:
        stamp = [0, 0]
    how = {**asdict(job.form), **asdict(job.split)}
    return {"source": job.stem, "stamp": stamp, "part": str(job.part or ""), "how": how}


def _done(row: dict[str, Any] | None, job: _Job) -> dict[str, Any] | None:
    """What was logged of a source, if that is still so; one that failed is tried again."""
    if row is None or row["error"] is not None or any(row[key] != value for key, value in _mark(job).items()):
        return None
    for clip in row["clips"]:
        file = job.folder / clip["path"]
        if not file.is_file() or file.stat().st_size != clip["bytes"]:
            return None
    return row


@contextmanager
def _log(folder: Path) -> Iterator[IO[str]]:
    """The open log of a folder, which is this process's alone."""
    with writing(folder / LOG):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("a+", encoding="utf-8") as log:
            with suppress(ImportError):
                import fcntl

                try:
                    fcntl.flock(log.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise VidsslError(f"{folder}: another process is preparing videos there") from None
            yield log


def _known(log: IO[str]) -> dict[str, dict[str, Any]]:
    """The last line of each source; a line that a killed process left unfinished counts for nothing."""
    log.seek(0)
    rows: dict[str, dict[str, Any]] = {}
    last = "\n"
    for last in log:
        with suppress(ValueError, KeyError, TypeError):
            row = json.loads(last)
            if {"source", "stamp", "part", "how", "clips", "error"} <= row.keys():
                rows[row["source"]] = row
    if not last.endswith("\n"):
        log.write("\n")
    return rows


def _finish(index: VideoIndex, folder: Path, rows: list[dict[str, Any]], done_before: int) -> Prepared:
    clips: list[Clip] = []
    bad: list[FailedVideo] = []
    of: list[int] = []  # the source of each clip
    for i, row in enumerate(rows):
        if row["error"] is not None:
            bad.append(FailedVideo(i, index.paths[i], row["error"], index.labels[i], "pyav"))
        clips += (Clip(**clip) for clip in row["clips"])
        of += [i] * len(row["clips"])
    made = VideoIndex.of(folder.absolute(), [clip.path for clip in clips], [index.labels[i] for i in of])
    if index.groups:
        made = replace(made, groups=tuple(index.groups[i] for i in of))
    elif len(set(of)) < len(of):
        made = replace(made, groups=tuple(" ".join(index.file(i).splitlines()) for i in of))
    if clips:
        made.write(folder / LIST)
    size = sum(row["stamp"][0] for row in rows if row["error"] is None)
    return Prepared(folder / LIST, tuple(clips), tuple(bad), size, done_before)
