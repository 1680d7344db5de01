"""Which sequences a folder or file holds, by what lies in it; each is read by itself, so that a broken one loses no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts import folder as folders
from vidssl.evaluation.tracking.layouts.images import video_frames
from vidssl.evaluation.tracking.layouts.jhmdb import joint_files, read_jhmdb
from vidssl.evaluation.tracking.layouts.trees import read_tree, tree_sequences
from vidssl.evaluation.tracking.sequence import Sequence

DEPTH = 2  # folders between the one that is named and those of its sequences, as in MOT17/train/MOT17-02
EXPECTED = (
    "a video file; a folder of images, alone or with groundtruth.txt, masks/, gt/gt.txt, keypoints.csv or "
    "joint_positions.mat beside it; a folder of such folders (OTB, VOT, GOT-10k, MOTChallenge); JPEGImages/ beside Annotations/ "
    "(DAVIS, YouTube-VOS); image_02/ beside instances/ (MOTS); joint_positions/ beside Rename_Images/ (JHMDB)"
)


class Found(NamedTuple):
    """A sequence that is there, not read yet.

    Attributes:
        name: of the sequence. read: reads it; raises VidsslError where it cannot be used.
    """

    name: str
    read: Callable[[], Sequence]


def find_sequences(data: str | Path) -> list[Found]:
    """The sequences of a video file, of a sequence's folder, or of a data set's.

    Raises:
        VidsslError: nothing there, or nothing that is recognised; with what was found and what is expected.
    """
    path = Path(data).expanduser()
    if path.is_file():
        return [Found(path.stem, partial(_read_video, path))]
    if not path.is_dir():
        raise VidsslError(f"{data}: no such file or folder; expected {EXPECTED}")
    found = _in_folder(path, path.resolve().name, DEPTH)
    if not found:
        raise VidsslError(f"{data}: no sequence found, only {_contents(path)}; expected {EXPECTED}")
    return found


def _read_video(path: Path) -> Sequence:
    frames, rate = video_frames(path)
    return Sequence(path.stem, frames, frame_rate=rate)


def _in_folder(path: Path, name: str, depth: int) -> list[Found]:
    place = folders.frames_folder(path)
    if place is not None and place != path:
        return _one(path, name)
    trees = tree_sequences(path)
    if trees:
        return [Found(key, partial(read_tree, key, *value)) for key, value in trees.items()]
    joints = joint_files(path)
    if joints:
        return [Found(key, partial(read_jhmdb, key, *value)) for key, value in joints.items()]
    inside: list[Found] = []
    if depth:
        for child in sorted(path.iterdir()):
            if child.is_dir() and child.name not in folders.MASKS:
                inside += _in_folder(child, child.name, depth - 1)
    if inside or place is None:
        return inside
    return _one(path, name)


def _one(path: Path, name: str) -> list[Found]:
    boxes: list[Path | None] = [*folders.box_files(path)] or [None]
    names = [name] if len(boxes) == 1 else [f"{name}.{number}" for number in range(1, len(boxes) + 1)]
    return [
        Found(own, partial(folders.read_folder, own, path, file))
        for own, file in zip(names, boxes, strict=True)
    ]


def _contents(path: Path) -> str:
    """What a folder holds, in a few words."""
    children = sorted(path.iterdir())
    below = [child.name for child in children if child.is_dir()]
    kinds = Counter(child.suffix or "without a suffix" for child in children if not child.is_dir())
    words = [f"{count} files {kind}" for kind, count in kinds.most_common(4)]
    if below:
        words.insert(0, f"{len(below)} folders ({', '.join(below[:4])}{', …' if len(below) > 4 else ''})")
    return ", ".join(words) or "nothing"
