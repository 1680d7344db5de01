"""Tar files as a list, as webdataset writes them: ``{key}.mp4`` with ``{key}.cls`` or ``{key}.json`` beside it.

A member is addressed like a file in a folder (`vidssl.data.decode.archive`), so that a video of a shard is found as directly
as a file, and order, resume and processes are as everywhere. Without labels of that kind a member has that of its folder.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

from vidssl.data.decode.address import ARCHIVE, url_of
from vidssl.data.decode.archive import tar_index
from vidssl.data.manifest.extensions import is_video_name
from vidssl.data.manifest.formats.folders import Found, first_names, folder_name
from vidssl.data.manifest.formats.labels import name_labels
from vidssl.data.manifest.formats.line import LABEL_COLUMNS, Line
from vidssl.errors import VidsslError

NOTES = (".cls", ".json", ".txt")  # suffixes of what says something of the video beside it
MOST = 1_000_000  # names that braces may stand for
_BRACES = re.compile(r"\{([^{}]+)\}")


def shard_files(source: Path) -> list[Path]:
    """The tar files that a source names: one, those right in a folder, or by ``shard-{000..012}.tar``; else none.

    Raises:
        VidsslError: braces that cannot be understood.
    """
    if source.name.endswith(ARCHIVE) and not source.is_dir():
        return [Path(name) for name in _expanded(str(source))]
    if source.name.endswith((".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")):
        raise VidsslError(
            f"{source}: compressed, so that its members cannot be found; write it as plain .tar"
        )
    if url_of(source) is None and source.is_dir():
        return sorted(file for file in source.glob(f"[!.]*{ARCHIVE}") if file.is_file())
    return []


def read_shards(files: list[Path]) -> Found:
    """The videos of tar files, in their order.

    Raises:
        VidsslError: a file that is missing or no plain tar file, or no videos in any.
    """
    root = files[0].parent
    lines: list[Line] = []
    others: Counter[str] = Counter()
    first: list[str] = []
    cut: list[str] = []
    texts: dict[str, str] = {}
    for file in files:
        index, archive = tar_index(file), file.relative_to(root).as_posix()
        if index.cut:
            cut.append(archive)
        keys = {_key(name) for name in index.members if is_video_name(name)}
        for name in index.members:
            if is_video_name(name):
                labels = _notes_of(name, index.notes)
                label = _label(labels)
                if label is None and ".txt" in labels:
                    texts[f"{archive}/{name}"] = labels[".txt"].strip()
                lines.append(Line(len(lines) + 1, f"{archive}/{name}", label or folder_name(name)))
            elif not (_key(name) in keys and PurePosixPath(name).suffix in NOTES):
                others[PurePosixPath(name).suffix.lower() or "no suffix"] += 1
                first += [f"{archive}/{name}"] if len(first) < 6 else []
    if not lines:
        raise VidsslError(f"{files[0]}: no videos in it (found {_counted(others) or 'nothing'})")
    remarks = []
    if cut:
        remarks.append(
            f"tar files that are cut off or damaged, read as far as they go: {len(cut)} ({first_names(cut)})"
        )
    if others:
        remarks.append(
            f"left out, not named like videos: {others.total()} member{'s' * (others.total() != 1)}, {_counted(others)} ({first_names(first)})"
        )
    if texts and len({*texts.values()}) <= len(texts) / 2:
        lines = [line._replace(label=texts.get(line.path, line.label)) for line in lines]
    elif texts:
        remarks.append(f"texts that say something else of nearly every video are no labels: {len(texts)}")
    return Found(root, name_labels(root / "shards", lines), [], remarks)


def _key(name: str) -> str:
    """A member's path up to the first dot of its name, which the files of one sample share."""
    folder, slash, last = name.rpartition("/")
    return f"{folder}{slash}{last.partition('.')[0]}"


def _notes_of(name: str, notes: Mapping[str, str]) -> dict[str, str]:
    """suffix -> text of the small members that belong to a video."""
    beside = {suffix: notes.get(_key(name) + suffix) for suffix in NOTES}
    return {suffix: text for suffix, text in beside.items() if text is not None}


def _label(notes: Mapping[str, str]) -> str | None:
    if ".cls" in notes:
        return notes[".cls"].strip() or None
    with suppress(ValueError):
        record: Any = json.loads(notes.get(".json", ""))
        if isinstance(record, dict):
            found = next(
                (record[key] for key in (*LABEL_COLUMNS, "cls") if record.get(key) is not None), None
            )
            return None if found is None else str(found)
    return None


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} x {suffix}" for suffix, count in kinds.most_common(5))


def _expanded(text: str) -> Iterator[str]:
    """``a-{08..11}.tar`` → a-08.tar, a-09.tar, a-10.tar, a-11.tar; ``{x,y}.tar`` → x.tar, y.tar."""
    pieces = _BRACES.split(text)
    choices = [[piece] if place % 2 == 0 else _choices(text, piece) for place, piece in enumerate(pieces)]
    for chosen in product(*choices):
        yield "".join(chosen)


def _choices(text: str, piece: str) -> list[str]:
    match = re.fullmatch(r"(\d+)\.\.(\d+)", piece)
    if match is None:
        if "," not in piece:
            raise VidsslError(
                f"{text}: {{{piece}}} is neither a range such as {{000..012}} nor a choice such as {{a,b}}"
            )
        return piece.split(",")
    low, high = int(match[1]), int(match[2])
    if not low <= high < low + MOST:
        raise VidsslError(f"{text}: {{{piece}}} is no range that grows, of at most {MOST:,} names")
    return [f"{number:0{len(match[1])}}" for number in range(low, high + 1)]
