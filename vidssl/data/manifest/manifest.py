"""From a folder or a list file to a `VideoIndex`: which videos there are, and what each shows.

Example::

    index = VideoIndex.read("kinetics/train")  # kinetics/train/<class>/<video>
    index.path(0), index.labels[0]
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.part import Part
from vidssl.data.manifest.extensions import VIDEO_EXTENSIONS, is_video_name
from vidssl.data.manifest.formats.lists import Missing, read_list, write_list
from vidssl.data.manifest.formats.rows import Line
from vidssl.errors import VidsslError, did_you_mean


@dataclass(frozen=True)
class VideoIndex:
    """Videos and their labels, in a fixed order.

    Attributes:
        root: absolute folder that `paths` are relative to.
        paths: one per video, posix, relative to root where the file lies below it, else absolute; of a part of a file
            with which one it is, as in ``run/a.mp4#t=12.5,20``, so that no two are equal.
        labels: class name of each, None where it has none.
        classes: all class names, sorted (by value if all are whole numbers); a subset keeps them all.
        groups: of each, the name of the videos that it was recorded together with, None where it has none; empty where
            nothing is known of groups. Parts of one file are a group, unless the list says otherwise.
        parts: of each, which part of its file it is, None for all of it; empty where all are whole files.
        missing: listed videos that do not exist; left out, or among `paths` if they were read to be counted.
        remarks: sentences for a person about what else is not as it seems: files left out, folders without videos.
    """

    root: Path
    paths: tuple[str, ...] = field(repr=False)
    labels: tuple[str | None, ...] = field(repr=False)
    classes: tuple[str, ...]
    groups: tuple[str | None, ...] = field(default=(), repr=False)
    parts: tuple[Part | None, ...] = field(default=(), repr=False)
    missing: tuple[str, ...] = field(default=(), repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def read(cls, source: str | Path, missing: Missing = "error") -> VideoIndex:
        """Index a folder or a list file.

        A folder holds ``<class>/<video>`` at any depth: the label is the name of a video's own folder, and videos right
        in the given folder have none. Hidden names are skipped, links followed; files of subfolders that do not end like
        videos are left out and remarked on. A list holds ``path,label`` lines (see `vidssl.data.manifest.formats.lists`), paths
        relative to its own folder.

        Args:
            source: the folder or file.
            missing: what to do about listed files that do not exist: "error", "skip" (left out) or "count" (they stay, so
                that an evaluation counts them as wrong).

        Raises:
            VidsslError: nothing there, no videos in it, or a list that cannot be understood.
        """
        path = Path(source).expanduser().absolute()
        if path.is_dir():
            files = list(_walk(path, frozenset()))
            found = [name for name in files if is_video_name(name)]
            if not found:
                raise VidsslError(_no_videos(path))
            index = cls.of(path, found, [_folder(name) for name in found])
            return replace(index, remarks=tuple(_left_out(files)))
        if not path.exists():
            raise VidsslError(_nothing_there(path))
        listed = read_list(path, missing)
        index = cls.of(
            path.parent, [line.name for line in listed.videos], [line.label for line in listed.videos]
        )
        parts = tuple(line.part for line in listed.videos)
        groups = tuple(line.group for line in listed.videos)
        if any(parts) and not any(groups):
            groups = tuple(line.path for line in listed.videos)
        gone, known = [line.name for line in listed.missing], {*index.classes, None}
        lost = list(dict.fromkeys(str(line.label) for line in listed.missing if line.label not in known))
        fate = "counted as failed" if missing == "count" else "left out"
        remarks = [f"listed but missing, {fate}: {len(gone)} ({first_names(gone)})"] if gone else []
        remarks += (
            [f"classes all of whose videos are missing: {len(lost)} ({first_names(lost)})"] if lost else []
        )
        return replace(
            index,
            groups=groups if any(groups) else (),
            parts=parts if any(parts) else (),
            missing=tuple(gone),
            remarks=tuple(remarks),
        )

    @classmethod
    def of(cls, root: Path, paths: Sequence[str], labels: Sequence[str | None]) -> VideoIndex:
        """An index of given paths and labels; the classes are those that occur."""
        names = {label: label for label in labels if label is not None}  # one string object per class
        by_value = all(name.isdecimal() for name in names)
        classes = sorted(names, key=lambda name: (int(name), name) if by_value else (0, name))
        return cls(root, tuple(paths), tuple(None if x is None else names[x] for x in labels), tuple(classes))

    @classmethod
    def of_files(cls, files: Sequence[str | Path]) -> VideoIndex:
        """An unlabelled index of single files, whatever their names end in; the root is the working folder.

        Raises:
            VidsslError: no file, or one that does not exist.
        """
        if not files:
            raise VidsslError("no video files given")
        root, paths = Path.cwd(), []
        for file in files:
            path = Path(file).expanduser().absolute()
            if not path.is_file():
                raise VidsslError(f"{path}: is not a file" if path.exists() else _nothing_there(path))
            paths.append((path.relative_to(root) if path.is_relative_to(root) else path).as_posix())
        return cls.of(root, paths, [None] * len(paths))

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> Path:
        """Absolute path of the file of video i."""
        return self.root / self.file(i)

    def file(self, i: int) -> str:
        """The path of the file of video i, as the folder or list names it."""
        return self.paths[i].removesuffix(str(self.part(i) or ""))

    def part(self, i: int) -> Part | None:
        """Which part of its file video i is, None for all of it."""
        return self.parts[i] if self.parts else None

    @cached_property
    def label_ids(self) -> NDArray[np.int64]:
        """(len,) place of each label among `classes`, -1 where there is none."""
        ids: dict[str | None, int] = {name: i for i, name in enumerate(self.classes)}
        return np.array([ids.get(label, -1) for label in self.labels], dtype=np.int64)

    @cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of all (path, label) pairs, whatever their order and the root."""
        rows = sorted(
            f"{path}\0{'' if x is None else '=' + x}\n"
            for path, x in zip(self.paths, self.labels, strict=True)
        )
        return hashlib.sha256("".join(rows).encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> VideoIndex:
        """The videos at ``indices``, in that order, with the same classes and ids."""
        chosen = [int(i) for i in indices]
        paths, labels = tuple(self.paths[i] for i in chosen), tuple(self.labels[i] for i in chosen)
        groups = tuple(self.groups[i] for i in chosen) if self.groups else ()
        parts = tuple(self.parts[i] for i in chosen) if self.parts else ()
        return replace(self, paths=paths, labels=labels, groups=groups, parts=parts)

    def labelled_by_folders(self) -> VideoIndex:
        """The same videos, each labelled with the name of its own folder; as UCF101's lists of test videos mean it."""
        index = VideoIndex.of(self.root, self.paths, [_folder(name) for name in self.paths])
        remark = f"the list has no labels; classes are the {len(index.classes)} folders of its paths"
        remarks = (*self.remarks, remark)
        return replace(index, groups=self.groups, parts=self.parts, missing=self.missing, remarks=remarks)

    def describe(self) -> str:
        """For a person: number of videos and classes, the sizes of the classes, the first videos."""
        counts = Counter(label for label in self.labels if label is not None)
        lines = [f"{self.root}: {len(self)} videos, {len(self.classes)} classes (digest {self.digest})"]
        if self.parts:
            files, whole = len({*map(self.file, range(len(self)))}), self.parts.count(None)
            lines.append(f"parts of files: {len(self) - whole}; whole files: {whole}; files: {files}")
        if counts:
            lines.append(f"videos per class: {min(counts.values())} to {max(counts.values())}")
            lines += [f"  {count:6}  {name}" for name, count in sorted(counts.items())[:20]]
            if len(counts) > 20:
                lines.append(f"  … and {len(counts) - 20} more classes")
        unlabelled = self.labels.count(None)
        if counts and unlabelled:
            lines.append(f"without a label: {unlabelled} videos")
        if self.groups:
            lines.append(f"recorded groups: {len({*self.groups} - {None})}")
        lines += self.remarks
        lines.append("first videos:")
        rows = list(zip(self.paths, self.labels, strict=True))[:3]
        lines += [f"  {path}  ({label or 'no label'})" for path, label in rows]
        return "\n".join(lines)

    def write(self, path: str | Path) -> None:
        """Write ``path,label`` (and ``group``, ``start`` and ``end`` where there are some) as CSV that `read` understands from the same folder.

        Raises:
            VidsslError: a file name holds a line break, which a list cannot; or there is a file already, while videos
                that do not exist were left out: it may name them.
        """
        left_out = set(self.missing) - set(self.paths)
        if left_out and Path(path).exists():
            raise VidsslError(
                f"{path}: left as it is: {len(left_out)} listed videos do not exist now; write to another file"
            )
        groups = self.groups or [None] * len(self)
        rows = zip(self.labels, groups, strict=True)
        lines = [Line(i, self.file(i), *row, self.part(i)) for i, row in enumerate(rows)]
        write_list(Path(path), lines, self.root)


def _walk(folder: Path, ancestors: frozenset[tuple[int, int]], prefix: str = "") -> Iterator[str]:
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
            yield from _walk(Path(entry.path), ancestors | {identity}, f"{prefix}{entry.name}/")
        elif entry.is_symlink() or entry.is_file():
            yield prefix + entry.name  # a broken link stays: it is to be reported, not forgotten


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link to itself is a broken one
            return False
        raise VidsslError(f"{entry.path}: cannot be looked at ({error.strerror})") from error


def _folder(name: str) -> str | None:
    """Name of the folder that a video lies in; None right in the root."""
    return PurePosixPath(name).parent.name or None


def _left_out(files: Sequence[str]) -> Iterator[str]:
    """What a person has to know of files that are not videos, and of folders without any, below the root."""
    others = [name for name in files if "/" in name and not name.endswith("/") and not is_video_name(name)]
    if others:
        kinds = Counter(PurePosixPath(name).suffix.lower() or "no suffix" for name in others)
        shown = ", ".join(f"{count} x {kind}" for kind, count in kinds.most_common(5))
        yield f"left out, not named like videos: {len(others)} files, {shown} ({first_names(others)})"
    with_videos = {
        str(folder) for name in files if is_video_name(name) for folder in PurePosixPath(name).parents
    }
    folders = dict.fromkeys(name.rpartition("/")[0] for name in files if "/" in name)
    empty = [folder for folder in folders if folder not in with_videos]
    if empty:
        yield f"folders without a video: {len(empty)} ({first_names(empty)})"


def first_names(names: Sequence[str], number: int = 5) -> str:
    """The first of some names, for a person."""
    return ", ".join(names[:number]) + (", …" if len(names) > number else "")


def _no_videos(folder: Path) -> str:
    found = Counter(
        Path(name).suffix.lower() or "no suffix" for _, _, names in os.walk(folder) for name in names
    )
    if not found:
        return f"{folder}: no videos found; the folder is empty"
    what = ", ".join(f"{count} x {suffix}" for suffix, count in found.most_common(5))
    return f"{folder}: no videos found (looked for {', '.join(VIDEO_EXTENSIONS)}; found {what})"


def _nothing_there(path: Path) -> str:
    """Names the first part of ``path`` that does not exist, and what lies there instead."""
    missing = next(part for part in (*reversed(path.parents), path) if not part.exists())
    try:
        siblings = [entry.name for entry in missing.parent.iterdir()]
    except OSError:
        siblings = []
    where = "" if missing == path else f" ({missing} does not exist)"
    return f"{path}: no such file or folder{where}{did_you_mean(missing.name, siblings)}"
