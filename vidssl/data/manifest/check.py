"""Which videos of an index can be opened: asked once, in processes that may die of it, and remembered."""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from dataclasses import astuple, dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vidssl.data.decode.reader import VideoInfo
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.probe import Outcome, probe_all
from vidssl.data.manifest.quarantine import BadVideo, write_quarantine
from vidssl.errors import VidsslError
from vidssl.files import write_text
from vidssl.version import __version__

__all__ = ["BadVideo", "CheckReport", "check_index", "require_readable_classes", "write_quarantine"]


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        good: the readable videos, in the order of the index and with all its classes.
        bad: the others, in the order of the index.
        infos: (len(good),) facts of the readable ones.
    """

    good: VideoIndex
    bad: tuple[BadVideo, ...]
    infos: tuple[VideoInfo, ...]


def check_index(
    index: VideoIndex,
    workers: int | None = None,
    *,
    cache: bool = True,
    progress: bool = True,
    timeout: float = 60.0,
) -> CheckReport:
    """Open every video and decode its first frame (see `probe_video`).

    Files are opened in separate processes even if there are few of them: only so can a decoder crash or hang on one
    and the others still be checked.

    Args:
        index: what to check.
        workers: processes at a time; None for one per core, at most 8.
        cache: reuse what an earlier check found out about files of the same size and time of change.
        progress: show a bar on standard error, from the second second on.
        timeout: seconds after which a file counts as unreadable.

    Raises:
        VidsslError: ``workers`` or ``timeout`` is not positive.
        RuntimeError: no worker process can be started.
    """
    if workers is not None and workers < 1:
        raise VidsslError(f"workers={workers}: must be at least 1")
    if timeout <= 0:
        raise VidsslError(f"timeout={timeout}: must be above 0 seconds")
    memory = _Memory(index.root) if cache else None
    stamps = [_stamp(index.path(i)) for i in range(len(index))]
    found = [
        memory.recall(path, stamp) if memory else None
        for path, stamp in zip(index.paths, stamps, strict=True)
    ]
    todo = [i for i, outcome in enumerate(found) if outcome is None]
    try:
        for outcome in _with_bar([index.path(i) for i in todo], workers or _cores(), timeout, progress):
            i = todo[outcome.place]
            found[i] = outcome
            if memory and outcome.final:
                memory.keep(index.paths[i], stamps[i], outcome)
    finally:
        if memory and todo:
            memory.save()
    return _report(index, found)


def require_readable_classes(report: CheckReport, allow_empty_classes: bool = False) -> None:
    """Insist that something is readable, and in every class unless ``allow_empty_classes``.

    Raises:
        VidsslError: naming the class, how many videos it has and what is wrong with the first of them.
    """
    if not report.good.paths:
        first = f", the first is {report.bad[0].path}: {report.bad[0].reason}" if report.bad else ""
        raise VidsslError(f"{report.good.root}: none of the {len(report.bad)} videos can be read{first}")
    unreadable = Counter(video.label for video in report.bad if video.label is not None)
    empty = [name for name in unreadable if name not in set(report.good.labels)]
    if empty and not allow_empty_classes:
        first_bad = next(video for video in report.bad if video.label == empty[0])
        more = f" (and {len(empty) - 1} more such classes)" if len(empty) > 1 else ""
        raise VidsslError(
            f"{report.good.root}: class {empty[0]!r}{more}: none of its {unreadable[empty[0]]} videos can be read, "
            f"the first is {first_bad.path}: {first_bad.reason}; repair it, or set allow_empty_classes"
        )


def _report(index: VideoIndex, found: list[Outcome | None]) -> CheckReport:
    good = [i for i, outcome in enumerate(found) if outcome is not None and outcome.info is not None]
    bad = [
        BadVideo(index.paths[i], outcome.reason, index.labels[i])
        for i, outcome in enumerate(found)
        if outcome is not None and outcome.info is None
    ]
    infos = [outcome.info for outcome in found if outcome is not None and outcome.info is not None]
    return CheckReport(index.subset(good), tuple(bad), tuple(infos))


def _with_bar(paths: list[Path], workers: int, timeout: float, progress: bool) -> Any:
    from tqdm import tqdm

    outcomes = probe_all(paths, workers, timeout)
    return tqdm(outcomes, "checking videos", len(paths), delay=2, unit=" files", disable=not progress)


def _cores() -> int:
    available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(available), 8)


Stamp = tuple[int, int]  # bytes, nanoseconds


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


class _Memory:
    """What is known of the files below one root, kept in the user's cache folder; worthless after an update."""

    def __init__(self, root: Path) -> None:
        from platformdirs import user_cache_dir

        name = sha256(os.fsencode(root)).hexdigest()[:24]
        self.file = Path(user_cache_dir("vidssl")) / "checked" / f"{name}.json"
        self.head = {"root": str(root), "vidssl": __version__, "av": version("av")}
        self.known: dict[str, Any] = {}
        with suppress(OSError, ValueError, KeyError, TypeError):  # absent or damaged: start afresh
            content = json.loads(self.file.read_text(encoding="utf-8"))
            if {key: content[key] for key in self.head} == self.head:
                self.known = dict(content["files"])

    def recall(self, path: str, stamp: Stamp | None) -> Outcome | None:
        """The earlier outcome for an unchanged file."""
        with suppress(ValueError, KeyError, TypeError):
            size, changed, answer = self.known[path]
            if (size, changed) == stamp:
                if isinstance(answer, str):
                    return Outcome(-1, None, answer, final=True)
                num_frames, fps, duration, height, width = answer
                info = VideoInfo(int(num_frames), float(fps), float(duration), int(height), int(width))
                return Outcome(-1, info, "", final=True)
        return None

    def keep(self, path: str, stamp: Stamp | None, outcome: Outcome) -> None:
        if stamp is not None:
            self.known[path] = (*stamp, astuple(outcome.info) if outcome.info else outcome.reason)

    def save(self) -> None:
        """Replace the file at once; a cache folder that cannot be written costs only time."""
        with suppress(OSError):
            write_text(self.file, json.dumps({**self.head, "files": self.known}))
