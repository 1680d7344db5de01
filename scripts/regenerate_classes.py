"""Rewrite prompts/classes/ and prompts/splits/ from the label maps and split lists of public projects.

    python scripts/regenerate_classes.py LABELS_FOLDER

LABELS_FOLDER holds ``mmaction2/label_map_*.txt``, ``ucf101_official_format/`` and ``hmdb51_official_format/`` (the
official lists of the two data sets), and ``vifi_clip/labels/ZS_split?_K600.csv``. Only facts are taken: names, and which
video is in which split. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
from collections.abc import Iterable
from pathlib import Path

from vidssl.concepts.names import display_name, slug

PROMPTS = Path(__file__).parents[1] / "prompts"
LABEL_MAPS = {
    "k400": ("k400", "Kinetics-400"),
    "k600": ("k600", "Kinetics-600"),
    "k700": ("k700", "Kinetics-700"),
    "hmdb51": ("hmdb51", "HMDB51"),
    "ssv2": ("sthv2", "Something-Something v2 (brackets removed)"),
    "activitynet": ("anet", "ActivityNet 1.3"),
    "diving48": ("diving48", "Diving48"),
    "mit": ("mit", "Moments in Time"),
}


def lines(file: Path) -> list[str]:
    return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def write_classes(dataset: str, names: Iterable[str], title: str, origin: str) -> None:
    names = list(names)
    rows = [
        f"# {title}: {len(names)} class names, from {origin}",
        "# The order is that list's, not an index to rely on: projects number these classes differently. Join by name.",
        "id\tname\tdisplay",
        *(f"{slug(name)}\t{name}\t{display_name(name)}" for name in names),
    ]
    (PROMPTS / "classes" / f"{dataset}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{dataset}: {len(names)} classes")


def write_splits(dataset: str, flags: dict[str, list[int]], title: str) -> None:
    """One line a class (``/name``) or a video: its stem and one digit a split, 1 train, 2 test, 0 in neither."""
    rows = [f"# {title}: {len(flags)} videos; digits: 1 train, 2 test, 0 unused, for splits 1, 2 and 3"]
    folder = ""
    for member in sorted(flags):
        if member.split("/")[0] != folder:
            folder = member.split("/")[0]
            rows.append(f"/{folder}")
        rows.append(f"{member.split('/', 1)[1]}\t{''.join(map(str, flags[member]))}")
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", fileobj=buffer, mtime=0) as stream:
        stream.write(("\n".join(rows) + "\n").encode())
    (PROMPTS / "splits" / f"{dataset}.txt.gz").write_bytes(buffer.getvalue())
    print(f"{dataset}: {len(flags)} videos, {len(buffer.getvalue()) / 1024:.0f} KiB")


def ucf101_splits(folder: Path) -> dict[str, list[int]]:
    flags: dict[str, list[int]] = {}
    for number in (1, 2, 3):
        for flag, part in ((1, "train"), (2, "test")):
            for line in lines(folder / f"{part}list{number:02d}.txt"):
                member = line.split(None, 1)[0].removesuffix(".avi")
                flags.setdefault(member, [0, 0, 0])[number - 1] = flag
    return flags


def hmdb51_splits(folder: Path) -> dict[str, list[int]]:
    flags: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*_test_split?.txt")):
        name, number = file.stem.split("_test_split")
        for line in lines(file):
            member, flag = line.rsplit(None, 1)
            flags.setdefault(f"{name}/{member.removesuffix('.avi')}", [0, 0, 0])[int(number) - 1] = int(flag)
    return flags


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("labels", type=Path)
    labels: Path = parser.parse_args().labels
    for folder in ("classes", "splits"):
        (PROMPTS / folder).mkdir(parents=True, exist_ok=True)
    for dataset, (stem, title) in LABEL_MAPS.items():
        names = lines(labels / f"mmaction2/label_map_{stem}.txt")
        write_classes(dataset, names, title, f"mmaction2's label_map of {stem}")
    indexed = lines(labels / "ucf101_official_format/classInd.txt")
    write_classes(
        "ucf101", [line.split(None, 1)[1] for line in indexed], "UCF101", "the official classInd.txt"
    )
    for number in (1, 2, 3):
        with (labels / f"vifi_clip/labels/ZS_split{number}_K600.csv").open(
            encoding="utf-8-sig", newline=""
        ) as stream:
            names = [row["name"] for row in csv.DictReader(stream)]
        write_classes(
            f"k600-zero-shot-{number}", names, f"Kinetics-600 zero-shot split {number}",
            "the label lists of ViFi-CLIP (the same sets as Text4Vis): classes of Kinetics-600 that Kinetics-400 lacks",
        )  # fmt: skip
    write_splits("ucf101", ucf101_splits(labels / "ucf101_official_format"), "UCF101, recognition task")
    write_splits(
        "hmdb51", hmdb51_splits(labels / "hmdb51_official_format"), "HMDB51, 70 train and 30 test a class"
    )


if __name__ == "__main__":
    main()
