"""What a set of videos is, in 64 hexadecimal digits: by it a run knows whether it goes on with the videos it began with.

The digest is over (path, size, content hash) of every video, in order, since the order is part of what is trained. The
paths are relative to the root, which may move. The content hash is over the size and both ends of a file: a container
has its tables of all frames at one of them, so two videos do not share them, while a whole data set is read in a minute
rather than in hours. Not noticed is a change in the middle of a longer file that leaves its size and both ends alone.
"""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from vidssl.data.manifest.manifest import VideoIndex

END = 128 * 1024  # bytes at either end; a file of up to twice as many is hashed whole
THREADS = 16  # of which most wait for the disk


def content_hash(path: str | Path) -> str:
    """64 hexadecimal digits: SHA-256 of a file's size (8 bytes, little-endian), its first 128 KiB, and its last 128 KiB
    without what these share.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        found = hashlib.sha256(size.to_bytes(8, "little"))
        found.update(stream.read(END))
        stream.seek(max(size - END, min(size, END)))
        found.update(stream.read(END))
    return found.hexdigest()


def data_digest(index: VideoIndex, progress: bool = True) -> str:
    """SHA-256 (64 hexadecimal digits) of the lines ``path NUL size NUL content hash LF`` of all videos, in order.

    Args:
        index: the videos. One that cannot be read counts with size 0 and an empty hash.
        progress: show a bar on standard error, from the second second on.
    """
    files = list(dict.fromkeys(map(index.file, range(len(index)))))  # one may be there in several parts
    with ThreadPoolExecutor(THREADS) as pool:
        rows = pool.map(_size_and_hash, (index.root / file for file in files))
        bar = tqdm(rows, "hashing videos", len(files), delay=2, unit=" files", disable=not progress)
        known = dict(zip(files, bar, strict=True))
        found = hashlib.sha256()
        for i, path in enumerate(index.paths):
            size, content = known[index.file(i)]
            found.update(f"{path}\0{size}\0{content}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _size_and_hash(path: Path) -> tuple[int, str]:
    try:
        return path.stat().st_size, content_hash(path)
    except OSError:
        return 0, ""
