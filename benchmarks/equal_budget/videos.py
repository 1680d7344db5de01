"""The two sets: rendered motions, and real clips; for choosing settings and for the report, which share no video."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple

from vidssl.demo.naming import train_clip
from vidssl.files import whole_folder
from vidssl.synthetic.motions import write_sprite_dataset

# Clips of the sets whose classes are told by motion; settings are chosen on the second row.
REPORTED = ("ut_interaction", "vsl_words", "table_tennis")
CHOOSING = ("surv_fight", "pushup_form")


class Source(NamedTuple):
    """train: what is pretrained on, without its labels; labelled: sets to probe, by name."""

    train: Path
    labelled: dict[str, Path]


def sprites(work: Path, choosing: bool) -> Source:
    """The eight motions of `vidssl demo`, none of which a single frame tells: 480 videos to train, 480 to test."""
    folder = work / ("sprites-choosing" if choosing else "sprites")
    if not folder.is_dir():
        with whole_folder(folder) as new:
            write_sprite_dataset(
                new,
                clips_per_class_train=60,
                clips_per_class_val=60,
                frames=24,
                shots=3,
                size=48,
                texture=0.0,
                seed=1000 if choosing else 0,
            )
    return Source(folder / "train", {"motions": folder})


def clip_of_frames(work: Path, seed: int) -> Path:
    """A folder of a small CLIP trained on captioned single frames of such motions, as the demo's; rendered apart from all videos."""
    folder = work / f"clip-{seed}"
    if not folder.is_dir():
        with whole_folder(folder) as new:
            train_clip(new, seed)
    return folder


def clips(work: Path, videos: Path, choosing: bool) -> Source:
    """Pretraining on the training splits of all sets and the clips without labels; probes on a set's own splits."""
    names = CHOOSING if choosing else REPORTED
    listed = work / "pretraining.csv"
    with (videos / "manifest.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] != "val"]
    with listed.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("path", "label"))
        writer.writerows((str((videos / row["path"]).resolve()), "") for row in rows)
    return Source(listed, {name: videos / name for name in names})
