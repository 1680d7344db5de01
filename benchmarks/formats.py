"""One set of videos in every form, trained on: the same first losses where the pixels are the same, else how far they are off.

    python benchmarks/formats.py --work /local/formats [--data ../shared/data] [--write]

The videos below --data are indexed, checked and trained on as they lie; then written anew in each form, below --work, and
indexed, checked and trained on from there: a small network from scratch, ten steps that together show every video once. Forms
with the files' own bytes must give the losses of the folder, to the last bit. Folders of pictures hold videos whose frames all last
equally long; they are compared with a list of these. Told to do it again, only what is missing is done. --write puts the table
into benchmarks/results/formats.{json,md}. The exit code is 1 where losses differ that must not.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from same_videos.writers import HUGGING_FACE, SAME_FILES, Writer, pictures  # noqa: E402

from vidssl.config import load_config  # noqa: E402
from vidssl.data.cache.videos import cached  # noqa: E402
from vidssl.data.decode.open import Opener, open_video  # noqa: E402
from vidssl.data.decode.reader import DecodeError  # noqa: E402
from vidssl.data.manifest.check import check_index  # noqa: E402
from vidssl.data.manifest.manifest import VideoIndex  # noqa: E402
from vidssl.data.prepare.form import Form  # noqa: E402
from vidssl.data.prepare.run import prepare  # noqa: E402
from vidssl.training import pretrain  # noqa: E402

STEPS, SIDE = 10, 32
RESULTS = ROOT / "benchmarks/results"
Row = dict[str, Any]


def recipe(folder: Path, batch: int) -> Path:
    """Of a small network that learns from two views of a second, with every draw there is."""
    views = {"count": 2, "frames": 4, "seconds": 1.0, "size": SIDE, "scale": [0.3, 1.0], "flip": 0.5}
    objective = {"gamma": 1.0, "target": False, "estimator": "exact", "projector": [64, 32]}
    train = {"batch_size": batch, "steps": STEPS, "lr": 1e-3, "precision": "fp32", "log_every": 1}
    text = {
        "output": "run",
        "data": {"train": "none", "window_seconds": 2.0, "decode_size": SIDE, "max_attempts": 100},
        "views": [views],
        "model": {"name": "conv3d/small"},
        "objective": {"hsic": objective},
        "train": {**train, "checkpoint_every": STEPS},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(text))
    return folder / "recipe.yaml"


@dataclass
class Work:
    """Where forms are written and what came of them is kept.

    Attributes:
        folder: of all. batch: clips of a step; 0 until the reference has said how many videos there are.
    """

    folder: Path
    batch: int = 0

    def made(self, name: str, make: Callable[[Path], str]) -> str:
        """What `make` returned when it wrote a form into a folder of its own, which it does once."""
        place = self.folder / "forms" / _slug(name)
        done = place.with_name(f"{place.name}.source")
        if not done.is_file():
            if not (place / "000000").is_dir():  # pictures go on where they were
                shutil.rmtree(place, ignore_errors=True)
            place.mkdir(parents=True, exist_ok=True)
            done.write_text(make(place))
        return done.read_text()

    def row(self, name: str, source: Callable[[], str], *options: str, **more: Any) -> Row:
        """A form indexed, checked and trained on; from the file that an earlier run left, if it did."""
        file = self.folder / "rows" / f"{_slug(name)}.json"
        if file.is_file():
            found: Row = json.loads(file.read_text())
            return found
        started = time.process_time(), time.perf_counter()
        data = source()
        written = time.perf_counter() - started[1]
        index = VideoIndex.read(data)
        report = check_index(index, progress=False)
        batch = self.batch or len(report.good) // STEPS
        run = self.folder / "runs" / _slug(name)
        shutil.rmtree(run, ignore_errors=True)
        changes = [f"data.train={data}", f"output={run}", "data.allow_empty_classes=true", *options]
        pretrain(load_config(recipe(self.folder, batch), changes))
        logged = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        lost = (run / "quarantine.csv").read_text().splitlines() if (run / "quarantine.csv").is_file() else []
        row = {
            "form": name,
            "videos": len(index),
            "unreadable": len(report.bad),
            "replaced": max(len(lost) - 1 - len(report.bad), 0),
            "batch": batch,
            "losses": [entry["loss"] for entry in logged],
            "seconds": {"written": written, "all": time.perf_counter() - started[1]},
            **more,
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(row))
        return row


def _slug(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def psnr(one: VideoIndex, other: VideoIndex, opener: Opener, other_opener: Opener) -> dict[str, float]:
    """Of the first, middle and last frame of every video of two sets: mean and least over the videos, dB."""
    values = []
    for i in range(len(one)):
        try:
            with opener(one.path(i)) as a, other_opener(other.path(i)) as b:
                wanted = [0, a.info.num_frames // 2, a.info.num_frames - 1]
                error = np.square(a.frames(wanted).astype(np.float64) - b.frames(wanted)).mean()
        except DecodeError:
            continue
        values.append(10 * np.log10(255**2 / error) if error else np.inf)
    finite = np.array(values)[np.isfinite(values)]
    return {"mean": float(finite.mean()), "least": float(finite.min()), "of": len(values)}


def compare(data: str, work: Work, forms: dict[str, Writer], every: int = 1) -> list[Row]:
    """The rows of the table: the folder and what has its bytes, then, of every so manieth video, pictures, kept frames and
    prepared clips."""
    reference = work.row("folder", lambda: data)
    work.batch = reference["batch"]
    index = check_index(VideoIndex.read(data), progress=False).good
    found = [reference]
    for name, write in forms.items():
        source = lambda name=name, write=write: work.made(name, lambda folder: write(index, folder))  # noqa: E731
        found.append(_compared(work.row(name, source), reference, same=True))
    chosen = index.subset(range(0, len(index), every))
    return found + _frames(chosen, work)


def _frames(index: VideoIndex, work: Work) -> list[Row]:
    """The rows of what holds frames and not the files' own bytes; their reference is a list of the same videos."""

    def of(suffix: str) -> Path:
        def write(folder: Path) -> str:
            index.subset(pictures(index, folder, suffix)).write(folder / "videos.csv")
            return str(folder / "train.csv")

        return Path(work.made(f"pictures{suffix}", write))

    def prepared(folder: Path) -> str:
        return str(prepare(videos, folder, Form(), workers=2, progress=False).list)

    png = of(".png")
    listed = str(png.with_name("videos.csv"))
    videos = VideoIndex.read(listed)
    work.batch = len(videos) // STEPS
    reference = work.row("videos of one frame rate", lambda: listed)
    kept = f"data.cache.folder={work.folder / 'kept'}"
    raw = work.row("these, frames kept raw", lambda: listed, "data.cache.form=raw", kept)
    jpeg = work.row("these, frames kept as JPEG", lambda: listed, "data.cache.form=jpeg", kept)
    other = work.row("JPEG frames with their rate", lambda: str(of(".jpg")))
    anew = work.row("prepared clips", lambda: work.made("prepared", prepared))
    plain = cached(open_video, SIDE, "memory", gigabytes=1e-9)  # shrinks, and keeps nothing
    keeps = cached(open_video, SIDE, "jpeg", work.folder / "kept")
    jpgs = VideoIndex.read(of(".jpg"))
    return [
        reference,
        _compared(work.row("PNG frames with their rate", lambda: str(png)), reference, same=True),
        _compared(raw, reference, same=True),
        _compared(jpeg, reference, same=False, db=psnr(videos, videos, plain, keeps)),
        _compared(other, reference, same=False, db=psnr(videos, jpgs, open_video, open_video)),
        _compared(anew, reference, same=False, db=_of_clips(work.folder / "forms/prepared")),
    ]


def _of_clips(folder: Path) -> dict[str, float]:
    """What `prepare` found when it read every clip back."""
    lines = (folder / "prepared.jsonl").read_text().splitlines()
    values = np.array([clip["psnr"] for line in lines for clip in json.loads(line)["clips"]])
    finite = values[np.isfinite(values)]
    return {"mean": float(finite.mean()), "least": float(finite.min()), "of": len(values)}


def _compared(row: Row, reference: Row, *, same: bool, db: dict[str, float] | None = None) -> Row:
    """A row, with how far its losses are from those of the reference, and whether they are what they must be."""
    apart = (
        np.abs(np.subtract(row["losses"], reference["losses"])).max()
        if len(row["losses"]) == len(reference["losses"])
        else np.inf
    )
    return {
        **row,
        "reference": reference["form"],
        "apart": float(apart),
        "must": same,
        "psnr": db,
    }


def report(rows: list[Row]) -> str:
    """The table in Markdown."""
    lines = [
        "| form | videos | unreadable | replaced in training | first and tenth loss | against | largest difference of losses | PSNR, dB: mean (least) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        apart = "" if "apart" not in row else "none" if row["apart"] == 0 else f"{row['apart']:.1g}"
        apart = f"**{apart}**" if row.get("must") and row["apart"] else apart
        db = row.get("psnr")
        shown = "" if not db else f"{db['mean']:.1f} ({db['least']:.1f})"
        losses = f"{row['losses'][0]:.6f}, {row['losses'][-1]:.6f}"
        cells = (
            row["form"],
            row["videos"],
            row["unreadable"],
            row["replaced"],
            losses,
            row.get("reference", ""),
            apart,
            shown,
        )
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Write, train, compare, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data")
    parser.add_argument("--work", type=Path, required=True, help="folder for several gigabytes")
    parser.add_argument("--every", type=int, default=1, help="of how many videos one is written as frames")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/formats.{json,md}")
    arguments = parser.parse_args()
    work = Work(arguments.work.absolute())
    os.environ["XDG_CACHE_HOME"] = str(work.folder / "cache")
    rows = compare(str(arguments.data.resolve()), work, SAME_FILES | HUGGING_FACE, arguments.every)
    print(report(rows))
    if arguments.write:
        write(rows, arguments.every)
    if any(row.get("must") and row["apart"] for row in rows):
        sys.exit(1)


def write(rows: list[Row], every: int) -> None:
    """The results with the command, the commit and the machine."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    command = f"python benchmarks/formats.py --every {every} --write"
    record = {"command": command, "commit": commit, "machine": where, "rows": rows}
    (RESULTS / "formats.json").write_text(json.dumps(record, indent=2) + "\n")
    head = f"# One set of videos in every form\n\n`{command}` at commit {commit} on {where}.\n\n"
    (RESULTS / "formats.md").write_text(f"{head}{report(rows)}\n")


if __name__ == "__main__":
    main()
