"""Damaged data sets: every one gives right frames or a reason, and none ends or holds up what reads it.

    python -m harm.readers KIND COUNT SEED FOLDER

makes a sound data set of a kind below FOLDER, damages COUNT copies of it, reads each as a run would, and prints counts as JSON.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from same_videos import writers

from harm.runs import LIMIT, Bench, Fault
from harm.videos import corrupt
from vidssl.data.cache.videos import cached
from vidssl.data.decode.open import Opener, open_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError

SECONDS = 20.0  # of CPU time for one copy; a hang is noticed from outside
SUBSET = 4  # videos of a set
Figures = dict[str, Any]
Frames = NDArray[np.uint8]


@dataclass(frozen=True)
class Kind:
    """A kind of data sets.

    Attributes:
        make: writes one of an index into a folder and returns what names it.
        exact: what frames there are must be right; else their bytes may have changed without a sign, but not their shape.
        opener: of the videos of the set in a folder.
    """

    make: Callable[[VideoIndex, Path], str]
    exact: bool
    opener: Callable[[Path], Opener] = lambda folder: open_video


def _pictures(suffix: str) -> Callable[[VideoIndex, Path], str]:
    def make(index: VideoIndex, folder: Path) -> str:
        writers.pictures(index, folder, suffix)
        return str(folder / "train.csv")

    return make


def _kept(form: str) -> Kind:
    """Kept frames of files that are sound themselves."""

    def opener(folder: Path) -> Opener:
        return cached(open_video, 32, form, folder / "kept")

    def make(index: VideoIndex, folder: Path) -> str:
        for i in range(len(index)):
            with opener(folder)(index.path(i)):
                pass
        return str(index.root)

    return Kind(make, True, opener)


KINDS = {
    "PNG frames": Kind(_pictures(".png"), True),
    "JPEG frames": Kind(_pictures(".jpg"), False),
    "tar shards": Kind(lambda index, folder: writers.shards(index, folder, each=2), False),
    "datasets, saved": Kind(writers.saved, False),
    "datasets, parquet": Kind(writers.parquet, False),
    "manifest": Kind(writers.manifest, True),
    "kept raw": _kept("raw"),
    "kept as JPEG": _kept("jpeg"),
}


def read_damaged(kind: str, count: int, seed: int, folder: Path, videos: Path) -> Figures:
    """What became of `count` damaged copies of a set: all frames right, a reason, or other frames where they may be.

    Raises:
        Fault: wrong frames, no clear reason, or too long a time.
    """
    chosen, rng = KINDS[kind], np.random.default_rng(seed)
    index = VideoIndex.read(videos)
    index = index.subset(np.linspace(0, len(index) - 1, SUBSET).round().astype(np.int64))
    clean = folder / "clean"
    clean.mkdir(parents=True)
    source = chosen.make(index, clean)
    right = dict(_read(source, chosen.opener(clean), index))
    if len(right) != SUBSET or not all(isinstance(frames, np.ndarray) for frames in right.values()):
        raise Fault(f"{kind}: the sound set cannot be read: {right}")
    counts: Counter[str] = Counter()
    for number in range(count):
        copy = folder / f"copy{number:04}"
        shutil.copytree(clean, copy)
        what = damage(copy, rng)
        began = time.process_time()
        named = source.replace(str(clean), str(copy))
        counts[_outcome(f"{kind}, copy {number}, {what}", named, chosen, copy, index, right)] += 1
        if time.process_time() - began > SECONDS:
            raise Fault(f"{kind}, copy {number}, {what}: took {time.process_time() - began:.0f} s")
        shutil.rmtree(copy)
    return {"copies": count, **counts}


def damage(folder: Path, rng: np.random.Generator) -> str:
    """Damage one file of a data set, lose it, or put another in its place; says which and how."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.stat().st_size)
    file, other = (files[int(rng.integers(len(files)))] for _ in range(2))
    kind = int(rng.integers(10))
    if kind == 0:
        file.unlink()
        return f"{file.name} gone"
    if kind == 1 and other != file and file.suffix in (".tar", ".arrow", ".parquet"):
        shutil.copy(other, file)
        return f"{other.name} in place of {file.name}"
    if kind == 2 and file.suffix in (".png", ".jpg"):
        with Image.open(file) as picture:
            Image.new("RGB", (picture.width + 2, picture.height)).save(file)
        return f"{file.name} of another size"
    file.write_bytes(corrupt(file.read_bytes(), rng))
    return f"{file.name} damaged"


def _read(source: str, opener: Opener, sound: VideoIndex) -> Iterator[tuple[str, Frames | str]]:
    """Every video of a set: its name, and its frames or why there are none; of `sound` in the order of the set."""
    index = VideoIndex.read(source)
    if index.root == sound.root and len(index) > len(sound):
        index = sound  # the set holds what was kept of these files
    for i in range(len(index)):
        try:
            with opener(index.path(i), timeline=index.timeline(i)) as video:
                yield index.paths[i], video.frames(range(video.info.num_frames))
        except VidsslError as error:
            yield index.paths[i], str(error)


def _outcome(name: str, source: str, kind: Kind, folder: Path, index: VideoIndex, right: list[Frames]) -> str:
    said: list[str] = []
    frames: list[tuple[str, Frames]] = []
    try:
        for path, found in _read(source, kind.opener(folder), index):
            if isinstance(found, str):
                said.append(found)
            else:
                frames.append((path, found))
    except VidsslError as error:
        said.append(str(error))
    if unclear := [one for one in said if not one.strip() or "\n" in one]:
        raise Fault(f"{name}: no clear reason: {unclear[0]!r}")
    other = [path for path, one in frames if not _is_part(one, right.get(path))]
    if other and kind.exact:
        raise Fault(f"{name}: wrong frames of {other[0]}")
    if other:
        return "other frames"
    return "a reason" if said else "right frames" if len(frames) == len(right) else "fewer videos"


def _is_part(frames: Frames, right: Frames | None) -> bool:
    """Whether they are the right ones, or all but the first or the last: nobody can know of these that they were there."""
    if right is None or len(frames) < len(right) - 1:
        return False
    return any(np.array_equal(frames, right[start : start + len(frames)]) for start in (0, 1))


def damaged(bench: Bench, count: int, kind: str) -> Figures:
    """Damaged copies of a data set (`count`): of pictures, tar shards, Hugging Face's, manifests, kept frames."""
    folder = bench.folder("damaged")
    folder.parent.mkdir(parents=True, exist_ok=True)
    seed = str(int(bench.rng.integers(1 << 31)))
    start = bench.script(
        "-m", "harm.readers", kind, str(count), seed, str(folder), str(bench.videos / "train")
    )
    if (code := start.end(LIMIT + SECONDS * count / 10)) != 0:
        raise Fault(f"exit code {code}: {start.said[-1500:]}")
    found: Figures = json.loads(start.said.strip().splitlines()[-1])
    return found


if __name__ == "__main__":
    with suppress(ImportError):
        import datasets

        datasets.disable_progress_bars()
    asked, times, first, place, sound = sys.argv[1:]
    sys.stdout.write(json.dumps(read_damaged(asked, int(times), int(first), Path(place), Path(sound))) + "\n")
