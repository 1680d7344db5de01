"""What a set of videos is, in 64 hexadecimal digits: by it a run knows whether it goes on with the videos it began with.

The digest is over (path, size, content hash) of every video, in order, since the order is part of what is trained. The
paths are relative to the root, which may move. Of files that are as they were when they were examined nothing is read.
"""

from __future__ import annotations

import hashlib
from itertools import repeat
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
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
    first: dict[str, int] = {}  # place of every file: one may be there in several parts
    for i in range(len(index)):
        first.setdefault(index.file(i), i)
    facts = index.facts.subset(np.array([*first.values()])) if index.facts else None
    known = facts.column("bytes", "changed", "content") if facts else repeat((None, None, None))
    jobs = ((index.root / file, *earlier) for file, earlier in zip(first, known, strict=False))
    with ThreadPool(THREADS) as pool:
        bar = tqdm(
            pool.imap(_size_and_hash, jobs, 256),
            "hashing videos",
            len(first),
            delay=2,
            unit=" files",
            disable=not progress,
        )
        content = dict(zip(first, bar, strict=True))
    found = hashlib.sha256()
    for i, path in enumerate(index.paths):
        size, hashed = content[index.file(i)]
        found.update(f"{path}\0{size}\0{hashed}\n".encode("utf-8", "surrogateescape"))
    return found.hexdigest()


def _size_and_hash(job: tuple[Path, int | None, int | None, str | None]) -> tuple[int, str]:
    path, size, changed, content = job
    stamp = file_stamp(path)
    if stamp is None:
        return 0, ""
    try:
        return stamp[0], content if content is not None and stamp == (size, changed) else content_hash(path)
    except OSError:
        return 0, ""
