"""What a set of videos is, in 64 hexadecimal digits: by it a run knows whether it goes on with the videos it began with.

The digest is over (path, size, content hash) of every video, in order, since the order is part of what is trained. The
paths are relative to the root, which may move; the hash is `content_hash`.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from vidssl.data.manifest.content import content_hash, file_stamp
from vidssl.data.manifest.manifest import VideoIndex

THREADS = 16  # of which most wait for the disk


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
        stamp = file_stamp(path)
        return (0, "") if stamp is None else (stamp[0], content_hash(path))
    except OSError:
        return 0, ""
