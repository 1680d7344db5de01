"""The same video in two data sets, under whatever names: files of equal content."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from tqdm import tqdm

from vidssl.data.decode.frames import is_frame_folder
from vidssl.data.manifest.content import content_hash, file_stamp, open_bytes
from vidssl.data.manifest.manifest import VideoIndex

HEAD = 1 << 16  # bytes


def same_files(first: VideoIndex, second: VideoIndex) -> list[tuple[int, int]]:
    """Videos of `second` whose file has the content of one of `first`.

    Few files are read: only those of a size that occurs in both, and to the end only those whose first 64 KiB do too. A file
    that cannot be read is equal to none.

    Returns:
        (row of `first`, row of `second`), in the order of `second`, with the first such row of `first`.
    """
    steps: tuple[Callable[[Path], str], ...] = (_size, _head, _content)
    ours, theirs = (dict.fromkeys(range(len(index)), "") for index in (first, second))
    for step in steps:
        ours, theirs = _looked_at(first, ours, step), _looked_at(second, theirs, step)
        shared = set(ours.values()) & set(theirs.values())
        ours, theirs = ({row: key for row, key in keys.items() if key in shared} for keys in (ours, theirs))
    rows = {key: row for row, key in reversed(ours.items())}
    return [(rows[key], row) for row, key in theirs.items()]


def _looked_at(index: VideoIndex, keys: dict[int, str], step: Callable[[Path], str]) -> dict[int, str]:
    """What is known of the files, and what one more look tells."""
    known = {}
    for row, key in tqdm(keys.items(), desc="same files", unit="file", delay=2, disable=step is _size):
        try:
            known[row] = f"{key} {step(index.path(row))}"
        except OSError:
            continue
    return known


def _size(path: Path) -> str:
    stamp = file_stamp(path)
    if stamp is None:
        raise FileNotFoundError(path)
    return str(stamp[0])


def _head(path: Path) -> str:
    if is_frame_folder(path):
        return content_hash(path)
    with open_bytes(path) as file:
        return hashlib.sha256(file.read(HEAD)).hexdigest()


def _content(path: Path) -> str:
    if is_frame_folder(path):
        return content_hash(path)
    found = hashlib.sha256()
    with open_bytes(path) as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
