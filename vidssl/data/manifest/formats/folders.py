"""A folder as a list: ``<class>/<video>`` at any depth, a video being a file, or a folder of frames where a rate is given."""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vidssl.data.decode.address import ARCHIVE, with_rate
from vidssl.data.decode.frames import is_picture_name
from vidssl.data.manifest.extensions import VIDEO_EXTENSIONS, is_video_name
from vidssl.data.manifest.formats.line import Line
from vidssl.errors import VidsslError


class Found(NamedTuple):
    """What a source holds.

    Attributes:
        root: that the paths of the lines are relative to. lines: the videos.
        missing: those that do not exist. remarks: sentences for a person about what else is not as it seems.
    """

    root: Path
    lines: list[Line]
    missing: list[Line]
    remarks: list[str]


def read_folder(folder: Path, rate: float | None = None) -> Found:
    """The videos below a folder, sorted, each labelled with the name of the folder that it lies in.

    Args:
        folder: to look in.
        rate: takes folders of pictures for videos, at this many frames a second, instead of files.

    Raises:
        VidsslError: there are none.
    """
    videos: list[str] = []
    pictures: Counter[str] = Counter()  # by folder
    others = _Kinds()
    folders: dict[str, None] = {}
    for name in _walk(folder, frozenset()):
        where = name.rpartition("/")[0]
        folders.setdefault(where)
        if is_video_name(name) and rate is None:
            videos.append(name)
        elif is_picture_name(name) and rate is not None:
            pictures[where] += 1
        elif not name.endswith("/"):
            others.add(name)
    if rate is not None:
        if "" in pictures:  # the folder is a video itself
            return Found(folder.parent, [Line(1, with_rate(folder.name, rate), None)], [], [])
        videos = [with_rate(name, rate) for name in sorted(pictures)]
    if not videos:
        raise VidsslError(_no_videos(folder, others, rate))
    lines = [Line(number, name, folder_name(name)) for number, name in enumerate(videos, 1)]
    full = {str(parent) for name in videos for parent in PurePosixPath(name).parents} | {*pictures}
    empty = [name for name in folders if name and name not in full]
    remarks = []
    if others.below:
        kinds, count = "videos" if rate is None else "pictures", others.below.total()
        remarks.append(
            f"left out, not named like {kinds}: {count} file{'s' * (count != 1)}, {others.shown(others.below)} "
            f"({first_names(others.first)})"
        )
    if empty:
        remarks.append(f"folders without a video, which give no class: {len(empty)} ({first_names(empty)})")
    return Found(folder, lines, [], remarks)


def folder_name(name: str) -> str | None:
    """Name of the folder that a video lies in; None right in the root, or right in a tar file."""
    folder = PurePosixPath(name).parent.name
    return None if folder.endswith(ARCHIVE) else folder or None


def files_below(folder: Path, depth: int | None = None) -> Iterator[str]:
    """Files below a folder, relative to it, sorted; hidden names are skipped, links followed, but not back up.

    Args:
        folder: to look in. depth: of folders inside each other, None for any.
    """
    return (name for name in _walk(folder, frozenset(), depth=depth) if not name.endswith("/"))


def has_videos(folder: Path) -> bool:
    """Whether there is a file below the folder that is named like a video."""
    return any(map(is_video_name, files_below(folder)))


def first_names(names: Sequence[str], number: int = 5) -> str:
    """The first of some names, for a person."""
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


class _Kinds:
    """Files that are no videos, by their suffixes: all, those below the root, and the first of the latter."""

    def __init__(self) -> None:
        self.all: Counter[str] = Counter()
        self.below: Counter[str] = Counter()
        self.first: list[str] = []

    def add(self, name: str) -> None:
        suffix = PurePosixPath(name).suffix.lower() or "no suffix"
        self.all[suffix] += 1
        if "/" in name:
            self.below[suffix] += 1
            self.first += [name] if len(self.first) < 6 else []

    @staticmethod
    def shown(counts: Counter[str]) -> str:
        return ", ".join(f"{count} x {suffix}" for suffix, count in counts.most_common(5))


def _walk(
    folder: Path, ancestors: frozenset[tuple[int, int]], prefix: str = "", depth: int | None = None
) -> Iterator[str]:
    """Files below ``folder`` relative to it, sorted, and folders without anything in them, which end in a slash.

    A link back to a folder on the way here is not followed.
    """
    try:
        status = folder.stat()
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise VidsslError(f"{folder}: cannot be read ({error.strerror})") from error
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        return
    shown = [entry for entry in entries if not entry.name.startswith(".")]
    if not shown and prefix:
        yield prefix
    for entry in shown:
        if _is_folder(entry):
            if depth is None or len(ancestors) < depth:
                yield from _walk(Path(entry.path), ancestors | {identity}, f"{prefix}{entry.name}/", depth)
        elif entry.is_symlink() or entry.is_file():
            yield prefix + entry.name  # a broken link stays: it is to be reported, not forgotten


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself is a broken one
            return False
        raise VidsslError(f"{entry.path}: cannot be looked at ({error.strerror})") from error


def _no_videos(folder: Path, others: _Kinds, rate: float | None) -> str:
    if rate is not None:
        there = f"found {others.shown(others.all)}" if others.all else "the folder is empty"
        return f"{folder}: no folders of pictures, which #fps asks for ({there})"
    found = Counter(
        Path(name).suffix.lower() or "no suffix" for _, _, names in os.walk(folder) for name in names
    )
    if not found:
        return f"{folder}: no videos found; the folder is empty"
    what = ", ".join(f"{count} x {suffix}" for suffix, count in found.most_common(5))
    advice = f"; frames need their rate: {folder.name}#fps=12" if any(map(is_picture_name, found)) else ""
    return f"{folder}: no videos found (looked for {', '.join(VIDEO_EXTENSIONS)}; found {what}){advice}"
