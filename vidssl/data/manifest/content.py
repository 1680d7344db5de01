"""What tells one video from another without reading all of it: its size, its time of change, and a hash.

The hash is over the size and both ends of a file: a container has its tables of all frames at one of them, so two videos do not
share them, while a whole data set is read in a minute rather than in hours. Not noticed is a change in the middle of a longer
file that leaves its size and both ends alone. A member of a tar file has the hash of the file that it is. A folder of frames
is known by its rate, the names of its pictures and the first and the last of them.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from vidssl.data.decode.address import split_archive, split_rate
from vidssl.data.decode.archive import open_member, tar_index
from vidssl.data.decode.frames import is_frame_folder, picture_names
from vidssl.data.decode.reader import DecodeError
from vidssl.data.hub import row_bytes, split_row
from vidssl.errors import VidsslError

END = 128 * 1024  # bytes at either end; a file of up to twice as many is hashed whole


def content_hash(path: str | Path) -> str:
    """64 hexadecimal digits: SHA-256 of a file's size (8 bytes, little-endian), its first 128 KiB, and its last 128 KiB
    without what these share.

    Raises:
        OSError: the file cannot be read.
    """
    path = Path(path)
    if is_frame_folder(path):
        return _hash_of_frames(*split_rate(path))
    with open_bytes(path) as stream:
        return _hash_of(stream)


def open_bytes(path: Path) -> Any:
    """A file, or a member of a tar file, to be read and sought.

    Raises:
        OSError: it cannot be opened.
    """
    try:
        return path.open("rb") if path.is_file() else open_member(path) or path.open("rb")
    except VidsslError as error:
        raise OSError(str(error)) from error


def file_stamp(path: Path) -> tuple[int, int] | None:
    """Size in bytes (of a folder of frames: how many there are) and time of change in nanoseconds; None where there is none.

    A member of a tar file changes when that does; on another machine its time is a number made of what is known of it.
    """
    try:
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    except OSError:
        pass
    try:
        if (found := split_archive(path)) is not None:
            return _member_stamp(*found)
        if (row := split_row(path)) is not None:
            return row_bytes(*row).size(), row[0].stat().st_mtime_ns
        if is_frame_folder(path):
            folder = split_rate(path)[0]
            return len(picture_names(folder)), folder.stat().st_mtime_ns
    except (OSError, VidsslError):
        pass
    return None


def _member_stamp(archive: Path, name: str) -> tuple[int, int] | None:
    index = tar_index(archive)
    if name not in index.members:
        return None
    return index.members[name][1], int(hashlib.sha256(index.changed.encode()).hexdigest()[:15], 16)


def _hash_of(stream: Any) -> str:
    size = stream.seek(0, os.SEEK_END)
    found = hashlib.sha256(size.to_bytes(8, "little"))
    stream.seek(0)
    found.update(stream.read(END))
    stream.seek(max(size - END, min(size, END)))
    found.update(stream.read(END))
    return found.hexdigest()


def _hash_of_frames(folder: Path, rate: float | None) -> str:
    try:
        names = picture_names(folder)
    except DecodeError as error:
        raise OSError(str(error)) from error
    found = hashlib.sha256("\0".join((repr(rate), *names)).encode("utf-8", "surrogateescape"))
    for name in (names[0], names[-1]):
        found.update(content_hash(folder / name).encode())
    return found.hexdigest()
