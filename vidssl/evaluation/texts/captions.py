"""Tables of captions: which sentence describes which video, as MSR-VTT's ``video_id,sentence``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

VIDEO = ("video_id", "video", "path", "file", "file_name", "name", "key")
TEXT = ("sentence", "caption", "text", "description")


class Captions(NamedTuple):
    """Sentences of videos.

    videos: those that have some, as rows of the index; texts: the sentences; of: for each, the place of its video among `videos`;
    absent: names of videos that are not in the index, one for each sentence.
    """

    videos: list[int]
    texts: list[str]
    of: list[int]
    absent: list[str]


def read_captions(file: str | Path, index: VideoIndex) -> Captions:
    """A CSV with a header: a column that names videos (by path, file name, or file name without ending) and one of sentences.

    Several rows may be of one video.

    Raises:
        VidsslError: the file cannot be read, lacks a column or a sentence, names a video that could be several, or none of the index.
    """
    names, texts = _columns(Path(file))
    known = _known(index.paths)
    place: dict[int, int] = {}
    kept, of, absent = [], [], []
    for name, text in zip(names, texts, strict=True):
        rows = known.get(name, ())
        if len(rows) > 1:
            raise VidsslError(
                f"{file}: {name}: could be {len(rows)} videos, such as {index.paths[rows[0]]}; give paths"
            )
        if not rows:
            absent.append(name)
            continue
        kept.append(text)
        of.append(place.setdefault(rows[0], len(place)))
    if not kept:
        raise VidsslError(
            f"{file}: none of its rows ({len(names)}) is of a video of {index.root}, such as {index.paths[0]}"
        )
    return Captions(list(place), kept, of, absent)


def _columns(file: Path) -> tuple[list[str], list[str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise VidsslError(f"{file}: cannot be read as CSV: {error}") from error
    header = list(rows[0]) if rows else []
    chosen = []
    for what, names in (("videos", VIDEO), ("sentences", TEXT)):
        found = [name for name in names if name in header]
        if not found:
            raise VidsslError(
                f"{file}: no column of {what} (one of {', '.join(names)}); it has {', '.join(map(str, header)) or 'no rows'}"
            )
        chosen.append([(row[found[0]] or "").strip() for row in rows])
    for number, (name, text) in enumerate(zip(*chosen, strict=True)):
        if not name or not text:
            raise VidsslError(f"{file}: row {number + 2}: lacks a video or a sentence")
    return chosen[0], chosen[1]


def _known(paths: Sequence[str]) -> dict[str, list[int]]:
    """By what a video can be named, its row."""
    known: dict[str, list[int]] = {}
    for row, path in enumerate(paths):
        pure = PurePosixPath(path)
        for name in {path, pure.name, pure.stem}:
            known.setdefault(name, []).append(row)
    return known
