"""From an index to its manifest: every file is opened once, by every decoder there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidssl.data.decode.choice import DECODERS, decoder_order
from vidssl.data.decode.open import loadable_decoders
from vidssl.data.manifest.check import cores
from vidssl.data.manifest.formats.folders import first_names
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.store.build import Examination, Examined, clear_journals, table_head
from vidssl.data.manifest.store.listing import is_manifest
from vidssl.data.manifest.store.table import write_table
from vidssl.errors import VidsslError, check_value


@dataclass(frozen=True)
class Indexing:
    """What became of the files of an index.

    Attributes:
        file: the manifest. index: its videos. examined: what is known of their files, and how much of it was known before.
    """

    file: Path
    index: VideoIndex
    examined: Examined

    def describe(self) -> str:
        """For a person: how many files were opened, which are unreadable, and which decoder takes how many."""
        errors = self.index.facts.column("error") if self.index.facts else ()
        bad = [path for path, error in zip(self.index.paths, errors, strict=True) if error is not None]
        known = self.examined
        lines = [
            f"{self.file}: {len(self.index)} videos, {len(bad)} unreadable{f' ({first_names(bad)})' if bad else ''}",
            f"files opened: {known.opened}; of which only the time was new: {known.renewed}; known before: {known.known}",
        ]
        first = decoder_order()[0]
        for name in DECODERS:
            values = list(self.index.facts.column(name)) if self.index.facts else []
            if any(value is not None for value in values):
                chosen = " (the first choice of auto)" if name == first else ""
                lines.append(f"decoded by {name}: {values.count('')}{chosen}")
        return "\n".join(lines)


def write_index(
    index: VideoIndex, file: Path, workers: int | None = None, *, timeout: float = 60.0, progress: bool = True
) -> Indexing:
    """Write the manifest of an index, opening only the files that an earlier one at this place does not know as they are.

    One that was killed leaves what it found in a journal beside the file, and the next one goes on from there.

    Args:
        workers: processes at a time; None for one per core, at most 8.
        timeout: seconds after which a file counts as unreadable.
        progress: show how far it is on standard error, from the second second on.

    Raises:
        VidsslError: the name does not end in .arrow, another file is there, it cannot be written, or see `check_index`.
    """
    check_value("workers", workers, workers is None or workers >= 1, "at least 1")
    if file.suffix != ".arrow":
        raise VidsslError(
            f"{file}: a manifest is a file that ends in .arrow (a list is written with --output)"
        )
    if file.exists() and not is_manifest(file):
        raise VidsslError(f"{file}: is there, and is no manifest; choose another name")
    examination = Examination(index.root, loadable_decoders(), workers or cores(), timeout, progress)
    examined = examination.of([index.file(i) for i in range(len(index))], file)
    _write_manifest(file, index, examined)
    return Indexing(file, VideoIndex.read(file), examined)


def _write_manifest(file: Path, index: VideoIndex, examined: Examined) -> None:
    """The root is kept relative to the manifest where one lies in the other: they can be moved together."""
    import pyarrow as pa

    parts = index.parts or [None] * len(index)
    extra = {
        "label": pa.array(index.labels, pa.string()),
        "group": pa.array(index.groups or [None] * len(index), pa.string()),
        "start": pa.array([part and part.start for part in parts], pa.float64()),
        "stop": pa.array([part and part.stop for part in parts], pa.float64()),
    }
    folder = file.absolute().parent
    together = index.root.is_relative_to(folder) or folder.is_relative_to(index.root)
    head: dict[str, Any] = {
        **table_head(),
        "root": os.path.relpath(index.root, folder) if together else str(index.root),
        "classes": index.classes,
        "groups": bool(index.groups),
        "parts": bool(index.parts),
        "missing": index.missing,
        "remarks": index.remarks,
    }
    write_table(file, examined.mapped.table, examined.rows, extra, head)
    clear_journals(file)
