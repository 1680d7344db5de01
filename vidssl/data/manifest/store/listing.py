"""A manifest: an Arrow file with the videos of a data set, what each shows, and what is known of its file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from vidssl.data.decode.part import Part
from vidssl.data.manifest.store.build import FORMAT
from vidssl.data.manifest.store.columns import Column
from vidssl.data.manifest.store.mapped import Mapped
from vidssl.data.manifest.store.table import Facts, head_of
from vidssl.errors import VidsslError


class Listing(NamedTuple):
    """The fields of a `VideoIndex`."""

    root: Path
    paths: Sequence[str]
    labels: Sequence[str | None]
    classes: tuple[str, ...]
    groups: Sequence[str | None]
    parts: Sequence[Part | None]
    missing: tuple[str, ...]
    remarks: tuple[str, ...]
    facts: Facts


def is_manifest(file: Path) -> bool:
    """Whether a file is one of Arrow's, whatever its name."""
    if not file.is_file():
        return False
    with file.open("rb") as stream:
        return stream.read(6) == b"ARROW1"


def read_manifest(file: Path) -> Listing:
    """The videos of a manifest; none of its rows is read.

    Raises:
        VidsslError: it is another Arrow file, damaged, or of another version of vidssl.
    """
    import pyarrow as pa

    try:
        mapped = Mapped.of(file)
        head = head_of(mapped.table)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise VidsslError(
            f"{file}: is no manifest that can be read ({str(error).splitlines()[0]})"
        ) from error
    if head.get("format") != FORMAT or "root" not in head:
        what = (
            f"a manifest of format {head['format']}" if "format" in head else "an Arrow file, but no manifest"
        )
        raise VidsslError(f"{file}: is {what}; make it with: vidssl data index FOLDER {file.name}")
    root, parts = Path(os.path.normpath(file.absolute().parent / head["root"])), bool(head["parts"])
    return Listing(
        root=root,
        paths=Column(mapped, ("path", "start", "stop"), _name) if parts else Column(mapped, ("path",), _path),
        labels=Column(mapped, ("label",), _text),
        classes=tuple(head["classes"]),
        groups=Column(mapped, ("group",), _text) if head["groups"] else (),
        parts=Column(mapped, ("start", "stop"), _part) if parts else (),
        missing=tuple(head["missing"]),
        remarks=tuple(head["remarks"]),
        facts=Facts(mapped, None, f"{file} was made (vidssl data index makes it again)"),
    )


def _path(path: bytes) -> str:
    return os.fsdecode(path)


def _name(path: bytes, start: float | None, stop: float | None) -> str:
    return os.fsdecode(path) + str(_part(start, stop) or "")


def _part(start: float | None, stop: float | None) -> Part | None:
    return None if start is None or stop is None else Part(start, stop)


def _text(text: str | None) -> str | None:
    return text
