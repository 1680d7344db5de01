"""Layouts with frames and masks in two folders side by side: DAVIS-2017, YouTube-VOS, KITTI-MOTS.

``JPEGImages/480p/<sequence>/*.jpg`` beside ``Annotations/480p/<sequence>/*.png`` (DAVIS; ``Full-Resolution`` where there is no
``480p``), ``JPEGImages/<sequence>`` beside ``Annotations/<sequence>`` (YouTube-VOS), ``image_02/<sequence>`` or
``images/<sequence>`` beside ``instances/<sequence>`` (MOTS) or ``masks/<sequence>``.
"""

from __future__ import annotations

from pathlib import Path

from vidssl.evaluation.tracking.layouts.images import image_files, image_frames, introduces, mask_list
from vidssl.evaluation.tracking.sequence import Sequence

FRAMES = ("JPEGImages", "image_02", "images", "frames")
MASKS = ("Annotations", "instances", "masks")
RESOLUTIONS = ("480p", "Full-Resolution")


def tree_sequences(root: Path) -> dict[str, tuple[Path, Path | None]]:
    """Sequence -> folders of its frames and of its masks, if any; nothing where the root is no such layout."""
    frames = next((root / name for name in FRAMES if (root / name).is_dir()), None)
    masks = next((root / name for name in MASKS if (root / name).is_dir()), None)
    if frames is None or masks is None:
        return {}
    inner = next((name for name in RESOLUTIONS if (frames / name).is_dir()), "")
    other = masks / inner if inner and (masks / inner).is_dir() else masks
    return {
        child.name: (child, other / child.name if image_files(other / child.name) else None)
        for child in sorted((frames / inner).iterdir())
        if image_files(child)
    }


def read_tree(name: str, frames: Path, masks: Path | None) -> Sequence:
    """One sequence of such a layout.

    Raises:
        VidsslError: masks that belong to no frame.
    """
    files = image_files(frames)
    if masks is None:
        return Sequence(name, image_frames(files))
    labels = mask_list(name, [file.stem for file in files], image_files(masks))
    return Sequence(name, image_frames(files), masks=labels, masks_introduce=introduces(labels))
