"""From a folder or a list file to a `VideoIndex`: which videos there are, and what each shows.

Example::

    index = VideoIndex.read("kinetics/train")  # kinetics/train/<class>/<video>
    index.path(0), index.labels[0]
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from vidssl.data.decode.address import local_form
from vidssl.data.decode.part import Part
from vidssl.data.decode.timeline import Timeline
from vidssl.data.manifest.formats.folders import folder_name
from vidssl.data.manifest.formats.line import Line
from vidssl.data.manifest.formats.lists import Missing, write_list
from vidssl.data.manifest.formats.sources import nothing_there, read_source
from vidssl.data.manifest.store.columns import Column
from vidssl.data.manifest.store.listing import is_manifest, read_manifest
from vidssl.data.manifest.store.table import Facts
from vidssl.errors import VidsslError, counted

T = TypeVar("T")


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
        facts: what is known of the files, None where they were not examined.
    """

    root: Path
    paths: Sequence[str] = field(repr=False)
    labels: Sequence[str | None] = field(repr=False)
    classes: tuple[str, ...]
    groups: Sequence[str | None] = field(default=(), repr=False)
    parts: Sequence[Part | None] = field(default=(), repr=False)
    missing: tuple[str, ...] = field(default=(), repr=False)
    remarks: tuple[str, ...] = field(default=(), repr=False)
    facts: Facts | None = field(default=None, repr=False, compare=False)

    @classmethod
    def read(cls, source: str | Path, missing: Missing = "error") -> VideoIndex:
        """Index a folder, a list file or a manifest, as ``vidssl data index`` writes it.

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
        if is_manifest(path := local_form(source)):
            return cls(*read_manifest(path))
        found = read_source(source, missing)
        index = cls.of(found.root, [line.name for line in found.lines], [line.label for line in found.lines])
        parts = tuple(line.part for line in found.lines)
        groups = tuple(line.group for line in found.lines)
        if any(parts) and not any(groups):
            groups = tuple(line.path for line in found.lines)
        return replace(
            index,
            groups=groups if any(groups) else (),
            parts=parts if any(parts) else (),
            missing=tuple(line.name for line in found.missing),
            remarks=tuple(found.remarks),
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
                raise VidsslError(f"{path}: is not a file" if path.exists() else nothing_there(path))
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

    def timeline(self, i: int) -> Timeline | None:
        """The time line of the file of video i, None where it is not known.

        Raises:
            DecodeError: the file was found unreadable, or has changed since.
        """
        return None if self.facts is None else self.facts.timeline(i, self.path(i))

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
        chosen = np.fromiter(indices, np.int64, len(indices))
        return replace(
            self,
            paths=_chosen(self.paths, chosen),
            labels=_chosen(self.labels, chosen),
            groups=_chosen(self.groups, chosen),
            parts=_chosen(self.parts, chosen),
            facts=self.facts.subset(chosen) if self.facts else None,
        )

    def labelled_by_folders(self) -> VideoIndex:
        """The same videos, each labelled with the name of its own folder; as UCF101's lists of test videos mean it."""
        index = VideoIndex.of(self.root, self.paths, [folder_name(name) for name in self.paths])
        remark = f"the list has no labels; classes are the {len(index.classes)} folders of its paths"
        remarks = (*self.remarks, remark)
        return replace(self, labels=index.labels, classes=index.classes, remarks=remarks)

    def describe(self) -> str:
        """For a person: number of videos and classes, the sizes of the classes, the first videos."""
        counts = Counter(label for label in self.labels if label is not None)
        lines = [
            f"{self.root}: {counted(len(self), 'video')}, {counted(len(self.classes), 'class')} (digest {self.digest})"
        ]
        if self.parts:
            files, whole = len({*map(self.file, range(len(self)))}), self.parts.count(None)
            lines.append(f"parts of files: {len(self) - whole}; whole files: {whole}; files: {files}")
        if counts:
            lines.append(f"videos per class: {min(counts.values())} to {max(counts.values())}")
            lines += [f"  {count:6}  {name}" for name, count in sorted(counts.items())[:20]]
            if len(counts) > 20:
                lines.append(f"  … and {counted(len(counts) - 20, 'more class')}")
        unlabelled = len(self) - counts.total()
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


def _chosen(values: Sequence[T], places: NDArray[np.int64]) -> Sequence[T]:
    """The values at some places; none where there are no values at all."""
    if isinstance(values, Column):
        return values.subset(places)
    return tuple(values[i] for i in places.tolist()) if values else ()
