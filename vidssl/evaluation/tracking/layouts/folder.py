"""Layouts with a folder for each sequence: OTB, VOT, GOT-10k, MOTChallenge, MOTS, rendered ones, and one's own.

What is looked for in a sequence's folder (each may be missing but the frames):

- frames: images in ``frames``, ``img``, ``img1``, ``color``, ``rgb`` or ``images``, or in the folder itself;
- ``groundtruth.txt`` or ``groundtruth_rect.txt`` (``groundtruth_rect.1.txt``, ``.2``: several sequences of the same frames), GOT-10k's
  ``absence.label`` beside it; boxes, or masks as VOT writes them since 2020; a single line is what to start from;
- ``masks``, ``annotations`` or ``instances``: label maps;
- ``gt/gt.txt`` or ``gt.txt``: MOTChallenge's rows or MOTS's; ``det/det.txt``; ``seqinfo.ini``; ``keypoints.csv`` or JHMDB's
  ``joint_positions.mat``.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

import numpy as np

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.layouts.images import image_files, image_frames, introduces, mask_list
from vidssl.evaluation.tracking.layouts.jhmdb import JOINTS, read_joints
from vidssl.evaluation.tracking.layouts.mots import is_mots, mots_masks
from vidssl.evaluation.tracking.layouts.tables import (
    DISTRACTORS,
    OF_MOT20,
    Rows,
    read_boxes,
    read_detections,
    read_keypoints,
    read_lines,
    read_objects,
    read_others,
)
from vidssl.evaluation.tracking.layouts.vot import is_vot_masks, vot_masks
from vidssl.evaluation.tracking.sequence import Sequence

FRAMES = ("frames", "img", "img1", "color", "rgb", "images")
MASKS = ("masks", "annotations", "instances")


def frames_folder(folder: Path) -> Path | None:
    """Where the frames of a sequence's folder are; None if it is none."""
    named = next((folder / name for name in FRAMES if image_files(folder / name)), None)
    if named is None and image_files(folder):
        return folder
    return named


def box_files(folder: Path) -> list[Path]:
    """Truth of single objects in a sequence's folder, one file an object."""
    one = folder / "groundtruth.txt"
    return [one] if one.is_file() else sorted(folder.glob("groundtruth_rect*.txt"))


def read_folder(name: str, folder: Path, boxes: Path | None) -> Sequence:
    """The sequence of a folder.

    Args:
        name: what it is called. folder: see above. boxes: which of its `box_files`.

    Raises:
        VidsslError: truth that cannot be read or does not belong to the frames.
    """
    place = frames_folder(folder) or folder
    files = image_files(place)
    frames = image_frames(files)
    truth: dict[str, Any] = {}
    if boxes is not None and is_vot_masks(boxes):
        truth["masks"], truth["boxes"] = vot_masks(boxes, len(files), frames[0].shape[:2])
        truth["masks_introduce"] = introduces(truth["masks"])
    elif boxes is not None:
        truth["boxes"], truth["corners"] = _boxes(boxes, len(files))
    masks = next((found for name in MASKS if (found := image_files(folder / name))), None)
    if masks is not None:
        truth["masks"] = mask_list(name, [file.stem for file in files], masks)
        truth["masks_introduce"] = introduces(truth["masks"])
    table = next((file for file in (folder / "gt" / "gt.txt", folder / "gt.txt") if file.is_file()), None)
    if table is not None and is_mots(table):
        truth["masks"] = mots_masks(table, len(files), frames[0].shape[:2])
    elif table is not None:
        truth["objects"] = read_objects(table)
        truth["others"] = read_others(table, DISTRACTORS | (OF_MOT20 if name.startswith("MOT20") else set()))
    detector = folder / "det" / "det.txt"
    if detector.is_file() and is_mots(detector):
        truth["detected"] = mots_masks(detector, len(files), frames[0].shape[:2], named=False)
    elif detector.is_file():
        truth["detections"] = read_detections(detector)
    if (folder / "keypoints.csv").is_file():
        truth["keypoints"] = read_keypoints(folder / "keypoints.csv", len(files))
    elif (folder / JOINTS).is_file():
        truth["keypoints"] = {1: read_joints(folder / JOINTS)}
    return Sequence(name, frames, frame_rate=_frame_rate(folder / "seqinfo.ini"), **truth)


def _boxes(file: Path, count: int) -> tuple[Rows, Rows | None]:
    """Boxes of all frames; after a first one that stands alone they are not known."""
    boxes, corners = read_boxes(file)
    if len(boxes) == 1 < count:
        rest = np.full((count - 1, 4), np.nan)
        return np.concatenate([boxes, rest]), None
    absence = file.parent / "absence.label"
    if absence.is_file():
        absent = [line.strip() == "1" for line in read_lines(absence) if line.strip()]
        if len(absent) != len(boxes):
            raise VidsslError(f"{absence}: {len(absent)} lines, but {len(boxes)} boxes")
        boxes = np.where(np.array(absent)[:, None], np.nan, boxes)
    return boxes, corners


def _frame_rate(file: Path) -> float | None:
    if not file.is_file():
        return None
    info = configparser.ConfigParser(interpolation=None)
    try:
        info.read_string("\n".join(read_lines(file)))
        rate = info.getfloat("Sequence", "frameRate", fallback=None)
    except (configparser.Error, ValueError) as error:
        raise VidsslError(f"{file}: {str(error).splitlines()[0]}") from None
    return rate if rate and rate > 0 else None
