"""Which videos of an index can be opened: asked once, in processes that may die of it, and remembered."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vidssl.data.decode.choice import decoder_order
from vidssl.data.decode.open import BACKENDS
from vidssl.data.decode.part import Part
from vidssl.data.decode.reader import VideoInfo
from vidssl.data.manifest.formats.folders import first_names
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.manifest.store.build import Examination, keep
from vidssl.data.manifest.store.table import Facts
from vidssl.errors import VidsslError, check_choice, check_value


@dataclass(frozen=True)
class CheckReport:
    """The outcome of a check.

    Attributes:
        good: the readable videos, in the order of the index and with all its classes.
        bad: the others, in the order of the index.
        infos: (len(good),) facts of the files of the readable ones.
        known: all of the videos, with what is known of their files.
    """

    good: VideoIndex
    bad: tuple[FailedVideo, ...]
    infos: tuple[VideoInfo, ...]
    known: VideoIndex

    @property
    def record(self) -> dict[str, Any]:
        """As JSON data."""
        return {
            "root": str(self.good.root),
            "readable": len(self.good),
            "unreadable": [video.record for video in self.bad],
            "missing": list(self.good.missing),
            "remarks": list(self.good.remarks),
            "digest": self.good.digest,
        }


def check_index(
    index: VideoIndex,
    workers: int | None = None,
    *,
    backend: str = "auto",
    cache: bool = True,
    progress: bool = True,
    timeout: float = 60.0,
) -> CheckReport:
    """Open every video and decode its first frame with each decoder that `open_video` would use for it.

    Files are opened in separate processes even if there are few of them: only so can a decoder crash or hang on one
    and the others still be checked. One of which the index holds several parts is opened once.

    Args:
        index: what to check.
        workers: processes at a time; None for one per core, at most 8.
        backend: that will decode the videos, see `open_video`.
        cache: reuse what an earlier check found out about files of the same size and time of change.
        progress: show how far it is on standard error, from the second second on.
        timeout: seconds after which a file counts as unreadable.

    Raises:
        VidsslError: ``workers`` or ``timeout`` is not positive, the backend is unknown or cannot be loaded, or the
            machine is in trouble that is no file's fault.
        RuntimeError: no worker process can be started.
    """
    check_value("workers", workers, workers is None or workers >= 1, "at least 1")
    check_value("timeout", timeout, timeout > 0, "above 0 seconds")
    check_choice("video backend", backend, BACKENDS)
    facts = index.facts or _examined(index, workers or cores(), timeout, backend, cache, progress)
    answers = facts.answers(backend, map(index.path, range(len(index))))
    rows = [_of_part(answer, index.part(i)) for i, answer in enumerate(answers)]
    known = replace(index, facts=facts)
    good = known.subset([i for i, answer in enumerate(rows) if isinstance(answer, VideoInfo)])
    infos = tuple(answer for answer in rows if isinstance(answer, VideoInfo))
    return CheckReport(
        good=replace(good, remarks=(*good.remarks, *_cut_short(good, infos))),
        bad=tuple(
            FailedVideo(i, index.paths[i], answer, index.labels[i], backend)
            for i, answer in enumerate(rows)
            if isinstance(answer, str)
        ),
        infos=infos,
        known=known,
    )


def _examined(
    index: VideoIndex, workers: int, timeout: float, backend: str, cache: bool, progress: bool
) -> Facts:
    """What is known of the files of an index, kept in the user's cache folder where it can be written."""
    decoders = decoder_order() if backend == "auto" else tuple({"pyav": None, backend: None})
    examination = Examination(index.root, decoders, workers, timeout, progress)
    names = [index.file(i) for i in range(len(index))]
    with TemporaryDirectory() as folder:
        out = (_cache_file(index.root) if cache else None) or Path(folder) / "checked"
        found = examination.of(names, out)
        if cache and found.mapped.file is None:
            found = keep(found, out)
        return Facts(found.mapped, found.rows, "it was checked")


def _cache_file(root: Path) -> Path | None:
    """Where what is known of the files below a root is kept; None where nothing can be written."""
    from platformdirs import user_cache_dir

    folder = Path(user_cache_dir("vidssl")) / "checked"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return (
        folder / f"{sha256(os.fsencode(root)).hexdigest()[:24]}.arrow" if os.access(folder, os.W_OK) else None
    )


def _of_part(answer: VideoInfo | str, part: Part | None) -> VideoInfo | str:
    """What is known of a file, or why there is no such part of it."""
    if isinstance(answer, VideoInfo) and part is not None and part.begins_after(answer.duration):
        return part.complaint(answer.duration)
    return answer


def _cut_short(good: VideoIndex, infos: Sequence[VideoInfo]) -> list[str]:
    """A remark on the parts that the list lets end more than a frame after their video does."""
    late = [
        good.paths[i]
        for i, info in enumerate(infos)
        if (part := good.part(i)) is not None and info.duration + 1 / info.fps < part.stop < math.inf
    ]
    return (
        [f"segments that end after their video, taken to its end: {len(late)} ({first_names(late)})"]
        if late
        else []
    )


def require_readable_classes(report: CheckReport, allow_empty_classes: bool = False) -> None:
    """Insist that something is readable, and in every class unless ``allow_empty_classes``.

    Videos that are missing and were read to be counted are no reason to refuse.

    Raises:
        VidsslError: naming the class, how many videos it has and what is wrong with the first of them.
    """
    if not report.good.paths:
        first = f", the first is {report.bad[0].path}: {report.bad[0].reason}" if report.bad else ""
        raise VidsslError(f"{report.good.root}: none of the {len(report.bad)} videos can be read{first}")
    missing = set(report.good.missing)
    bad = [video for video in report.bad if video.path not in missing]
    unreadable = Counter(video.label for video in bad if video.label is not None)
    empty = [name for name in unreadable if name not in set(report.good.labels)]
    if empty and not allow_empty_classes:
        first_bad = next(video for video in bad if video.label == empty[0])
        more = f" (and {len(empty) - 1} more such classes)" if len(empty) > 1 else ""
        raise VidsslError(
            f"{report.good.root}: class {empty[0]!r}{more}: none of its {unreadable[empty[0]]} videos can be read, "
            f"the first is {first_bad.path}: {first_bad.reason}; repair it, or set allow_empty_classes"
        )


def cores() -> int:
    """Processors that this process may use, at most 8."""
    available = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return min(len(available), 8)
