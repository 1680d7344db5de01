"""Frames and masks of a sequence: folders of image files, in the order of the numbers in their names, or a video."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vidssl.data.decode.open import open_video
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.sequence import Lazy, Mask

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"})
BLOCK = 32  # frames of a video decoded at a time
ALONE, VOID, IGNORED = (
    255,
    255,
    10_000,
)  # one object drawn in white; not counted, in DAVIS; not counted, in MOTS
_NUMBER = re.compile(r"(\d+)(?!.*\d)")


def image_files(folder: Path) -> list[Path]:
    """The images of a folder, in the order of the last number in their names."""
    if not folder.is_dir():
        return []
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.is_file())
    return sorted(files, key=lambda file: (number_of(file.stem), file.name))


def number_of(stem: str) -> int:
    """The last number in a name, -1 where there is none."""
    found = _NUMBER.search(stem)
    return int(found.group(1)) if found else -1


def image_frames(files: Sequence[Path]) -> Lazy[NDArray[np.uint8]]:
    """Frames uint8 RGB (H, W, 3) of image files."""
    return Lazy(len(files), lambda index: np.array(_open(files[index]).convert("RGB")))


def video_frames(path: Path) -> tuple[Lazy[NDArray[np.uint8]], float]:
    """Frames of a video, decoded `BLOCK` at a time (the last block stays in memory), and how many there are a second.

    Raises:
        VidsslError: no readable video, now or at one of its frames.
    """
    reader = open_video(path)
    count = reader.info.num_frames
    kept: dict[int, NDArray[np.uint8]] = {}

    def frame(index: int) -> NDArray[np.uint8]:
        block = index // BLOCK
        if block not in kept:
            kept.clear()
            kept[block] = reader.frames(range(block * BLOCK, min((block + 1) * BLOCK, count)))
        image: NDArray[np.uint8] = kept[block][index % BLOCK]
        return image

    return Lazy(count, frame), reader.info.fps


def read_mask(file: Path) -> Mask:
    """The label map of an image, int64 (H, W), numbers as they stand in it; a colour counts as r·65536 + g·256 + b.

    Raises:
        VidsslError: an image that cannot be read.
    """
    image = _open(file)
    if image.mode in ("P", "L", "1", "I", "I;16"):
        return np.asarray(image).astype(np.int64)
    colour = np.asarray(image.convert("RGB")).astype(np.int64)
    packed: Mask = colour @ np.array([65536, 256, 1], dtype=np.int64)
    return packed


def mask_list(name: str, frames: Sequence[str], files: Sequence[Path]) -> Lazy[Mask | None]:
    """Label maps for the frames of a sequence: files of the same name, else of the same number, else one each in order.

    Where the first map has no number but 255 (or white), that is object 1; beside other numbers 255 is background, as in DAVIS, and
    so is 10,000, the region that MOTS does not count.

    Args:
        name: of the sequence. frames: names of its frames without suffix. files: its masks.

    Raises:
        VidsslError: masks that belong to no frame.
    """
    by_frame = _matched(name, frames, files)
    first = np.unique(read_mask(by_frame[min(by_frame)]))
    alone = [int(number) for number in first if number]
    white = alone[0] if alone in ([ALONE], [0xFFFFFF]) else None

    def labels(index: int) -> Mask | None:
        file = by_frame.get(index)
        if file is None:
            return None
        mask = read_mask(file)
        if white is not None:
            return np.asarray(mask == white, dtype=np.int64)
        return np.where((mask == VOID) | (mask == IGNORED), 0, mask)

    return Lazy(len(frames), labels)


def introduces(masks: Lazy[Mask | None]) -> bool:
    """Whether masks only say where objects start: some frames have none, and no object stands in two of them."""
    seen: set[int] = set()
    given = 0
    for index in range(len(masks)):
        mask = masks[index]
        if mask is None:
            continue
        given += 1
        ids = set(np.unique(mask).tolist()) - {0}
        if ids & seen:
            return False
        seen |= ids
    return not given == len(masks) > 1


def _matched(name: str, frames: Sequence[str], files: Sequence[Path]) -> Mapping[int, Path]:
    at = {stem: index for index, stem in enumerate(frames)}
    numbers = {number_of(stem): index for index, stem in enumerate(frames)}
    for place in (
        {at[file.stem]: file for file in files if file.stem in at},
        {numbers[number_of(file.stem)]: file for file in files if number_of(file.stem) in numbers},
    ):
        if len(place) == len(files):
            return place
    if len(files) == len(frames):
        return dict(enumerate(files))
    strange = next(file.name for file in files if file.stem not in at)
    raise VidsslError(
        f"{name}: {len(frames)} frames and {len(files)} masks, and {strange} has the name of no frame "
        f"(frames {frames[0]} to {frames[-1]})"
    )


def _open(file: Path) -> Image.Image:
    try:
        image = Image.open(file)
        image.load()
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise VidsslError(f"{file}: no readable image ({str(error).splitlines()[0]})") from error
    return image
