"""Sequences drawn by hand for tests: a bright square with a texture of its own that moves over a dark ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 16  # of the square, in pixels


def square_box(t: int) -> tuple[int, int, int, int]:
    """Where the square of frame t is: (x, y, w, h)."""
    return 8 + 4 * (t % 12), 12 + 4 * (t % 9), SIDE, SIDE


def square_frame(t: int, size: tuple[int, int] = (64, 80)) -> NDArray[np.uint8]:
    """Frame t, uint8 (H, W, 3)."""
    ground = np.random.default_rng(0).integers(0, 60, (*size, 3))
    texture = np.random.default_rng(1).integers(120, 255, (SIDE, SIDE, 3))
    x, y, w, h = square_box(t)
    ground[y : y + h, x : x + w] = texture
    return ground.astype(np.uint8)


def square_mask(t: int, size: tuple[int, int] = (64, 80), number: int = 1) -> NDArray[np.uint8]:
    """Its label map."""
    mask = np.zeros(size, dtype=np.uint8)
    x, y, w, h = square_box(t)
    mask[y : y + h, x : x + w] = number
    return mask


def write_frames(folder: Path, count: int, pattern: str = "{:05d}.png", start: int = 0) -> None:
    """Frames as image files."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(count):
        Image.fromarray(square_frame(t)).save(folder / pattern.format(t + start))


def write_masks(folder: Path, frames: list[int], pattern: str = "{:05d}.png", number: int = 1) -> None:
    """Label maps of some frames as palette images."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in frames:
        image = Image.fromarray(square_mask(t, number=number), mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(folder / pattern.format(t))


def write_boxes(file: Path, count: int, separator: str = ",") -> None:
    """Boxes, one a line."""
    lines = [separator.join(map(str, square_box(t))) for t in range(count)]
    file.write_text("\n".join(lines) + "\n")
