"""Broken and odd videos: every one gives frames or a reason, and none ends or holds up what reads it.

    python -m harm.videos LIST

reads all files that LIST (a path a line) names through an evaluation loader with one worker, and prints counts as JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from harm.runs import LIMIT, Bench, Fault

SECONDS = 20.0  # for one file
Figures = dict[str, Any]


class Files:
    """Videos by their paths."""

    def __init__(self, paths: list[str]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> Path:
        return Path(self.paths[i])

    def part(self, i: int) -> None:
        """All are whole."""

    def timeline(self, i: int) -> None:
        """None is known."""


def read_all(paths: list[str]) -> Figures:
    """How many files gave frames, and for which kinds of reasons the others did not."""
    from vidssl.data.clips import ClipSpec
    from vidssl.data.dataset import EvalClipDataset
    from vidssl.data.loader import build_eval_loader
    from vidssl.data.views.evaluation import EvalSpec

    dataset = EvalClipDataset(Files(paths), EvalSpec(ClipSpec(4, stride=1), size=32), deadline=SECONDS)
    counts, costly = Counter({"frames": 0}), []
    for batch in build_eval_loader(dataset, 4, num_workers=1):
        counts["frames"] += int((~batch.failed).sum())
        for failure in batch.failures:
            kind = next(
                (k for k in ("the decoder crashed", "took longer") if failure.reason.startswith(k)),
                "a reason",
            )
            counts[kind] += 1
            if kind != "a reason":
                costly.append(f"{Path(failure.path).name}: {failure.reason}")
    return {**counts, **({"cost a process": costly} if costly else {})}


def corrupt(content: bytes, rng: np.random.Generator) -> bytes:
    """One of: cut off, bits flipped, a range of zeros or of noise, a piece left out or doubled, an absurd length in a box."""
    data, size = bytearray(content), len(content)
    kind, at = int(rng.integers(7)), int(rng.integers(size))
    length = int(rng.integers(1, max(size // 16, 2)))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        for place in rng.integers(size, size=int(rng.integers(1, 17))):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:
        data[at : at + length] = bytes(len(data[at : at + length]))
    elif kind == 3:
        data[at : at + length] = rng.bytes(len(data[at : at + length]))
    elif kind == 4:
        del data[at : at + length]
    elif kind == 5:
        data[at:at] = data[at : at + length]
    else:
        boxes = (
            b"moov",
            b"mdat",
            b"trak",
            b"stbl",
            b"stts",
            b"stsz",
            b"stsc",
            b"stco",
            b"avcC",
            b"mdhd",
            b"stsd",
            b"elst",
        )
        box = data.find(boxes[int(rng.integers(len(boxes)))])
        place = (
            max(box - 4, 0) if rng.random() < 0.5 else min(max(box, 0) + 4 + int(rng.integers(16)), size - 4)
        )
        data[place : place + 4] = rng.bytes(4)
    return bytes(data)


def corruptions(bench: Bench, count: int) -> Figures:
    """Corrupt copies of rendered videos, read by a loader and then trained on without a check before."""
    sources = sorted(bench.videos.rglob("*.mp4"))
    root = bench.folder("corrupt") / "train"
    for number in range(count):
        source = sources[number % len(sources)]
        target = root / source.parent.name / f"{source.stem}_{number:04d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(corrupt(source.read_bytes(), bench.rng))
    figures = _read(bench, sorted(root.rglob("*.mp4")))
    start = bench.complete(
        bench.folder("corrupt_run"), f"data.train={root}", "data.check=false", "data.max_attempts=100"
    )
    return {**figures, "replaced in a run over them": start.said.count("; replaced (")}


def odd_videos(bench: Bench, count: int, folder: Path) -> Figures:
    """Real files that decoders meet in the wild, `count` of them."""
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("README.md", "manifest.csv")
    ]
    if not files:
        return {"left out": f"{folder} is not there"}
    chosen = np.sort(bench.rng.permutation(len(files))[:count])
    return _read(bench, [files[i] for i in chosen])


def _read(bench: Bench, files: list[Path]) -> Figures:
    names = bench.folder("names").with_suffix(".txt")
    names.parent.mkdir(parents=True, exist_ok=True)
    names.write_text("".join(f"{path}\n" for path in files), errors="surrogateescape")
    start = bench.script("-m", "harm.videos", str(names))
    if (code := start.end(LIMIT + SECONDS * len(files) / 10)) != 0:
        raise Fault(f"exit code {code}: {start.said[-1500:]}")
    found: Figures = json.loads(start.said.strip().splitlines()[-1])
    accounted = sum(value for value in found.values() if isinstance(value, int))
    if accounted != len(files):
        raise Fault(f"{accounted} of {len(files)} files are accounted for: {found}")
    return {"files": len(files), **found}


if __name__ == "__main__":
    listed = Path(sys.argv[1]).read_text(errors="surrogateescape").splitlines()
    sys.stdout.write(json.dumps(read_all(listed)) + "\n")
