"""Pictures of what was tracked: masks, boxes and points in the colour of their object, the truth thin and white beside it."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from vidssl.errors import counted
from vidssl.evaluation.tracking.run.task import Labels, Rows, Tracked
from vidssl.evaluation.tracking.sequence import Sequence
from vidssl.files import whole_file

SIDE = 320  # pixels of a drawn frame's long side, at least
WHITE = (255, 255, 255)
COLUMNS, HEIGHT = 6, 160  # of a strip: frames of a sequence, and their height in pixels
TICKS = 28  # pixels between two of a ruler, at least
Colour = tuple[int, int, int]
Pixels = NDArray[np.uint8]
Number = TypeVar("Number", bound=np.generic)


def colour_of(number: int) -> Colour:
    """A colour for an id: hues a golden angle apart, so that neighbours differ."""
    red, green, blue = colorsys.hsv_to_rgb((0.02 + 0.618034 * (number - 1)) % 1, 0.85, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_frame(sequence: Sequence, index: int, tracked: Tracked, truth: Tracked) -> Pixels:
    """Frame `index` with what was tracked in it, enlarged by a whole number where it is small."""
    frame = sequence.frames[index]
    scale = max(1, -(-SIDE // max(frame.shape[:2])))
    image = _grown(frame, scale)
    if truth.masks is not None and (mask := truth.masks(index)) is not None:
        image[_outline(_grown(mask, scale))] = WHITE
    if tracked.masks is not None and (mask := tracked.masks(index)) is not None:
        image = _tinted(image, _grown(mask, scale))
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    for shown, thin in ((truth, True), (tracked, False)):
        _draw_boxes(draw, shown, index, scale, thin)
        _draw_points(draw, shown, index, scale, thin)
    return np.asarray(canvas)


def strip(sequence: Sequence, drawn: dict[int, Pixels]) -> Pixels:
    """A row of a strip: the name, then some drawn frames side by side, each with its number; the first has rulers in pixels."""
    cells = []
    for index, frame in drawn.items():
        image = Image.fromarray(frame)
        image = image.resize((round(image.width * HEIGHT / image.height), HEIGHT), Image.Resampling.LANCZOS)
        draw = ImageDraw.Draw(image)
        if index == 0:
            _rulers(draw, sequence.size)
        _text(draw, (4, HEIGHT - 16), str(index), WHITE)
        cells.append(np.asarray(image))
    row = np.concatenate(cells, axis=1)
    header = Image.new("RGB", (row.shape[1], 18), (20, 20, 20))
    _text(ImageDraw.Draw(header), (4, 3), f"{sequence.name}, {counted(len(sequence), 'frame')}", WHITE)
    return np.concatenate([np.asarray(header), row])


def _rulers(draw: ImageDraw.ImageDraw, size: tuple[int, int]) -> None:
    """Ticks along the upper and the left side of a strip's frame, in pixels of the frame of (H, W)."""
    scale = HEIGHT / size[0]
    step = next((s for s in (10, 20, 50, 100, 200, 500) if s * scale >= TICKS), 1000)
    for pixel in range(step, size[1], step):
        draw.line((scale * pixel, 0, scale * pixel, 5), fill=WHITE)
        _text(draw, (scale * pixel - 6, 6), str(pixel), WHITE)
    for pixel in range(step, int(size[0] - 20 / scale), step):  # the frame's number is below
        draw.line((0, scale * pixel, 5, scale * pixel), fill=WHITE)
        _text(draw, (8, scale * pixel - 5), str(pixel), WHITE)


def strip_frames(count: int) -> list[int]:
    """Which frames a strip shows: the first, the last, and some evenly between."""
    return sorted({round(index) for index in np.linspace(0, count - 1, min(COLUMNS, count))})


def write_strips(file: Path, strips: Iterable[Pixels]) -> None:
    """Strips one below the other, as a PNG."""
    rows = list(strips)
    width = max(row.shape[1] for row in rows)
    padded = [np.pad(row, ((0, 4), (0, width - row.shape[1]), (0, 0))) for row in rows]
    with whole_file(file) as partial:
        Image.fromarray(np.concatenate(padded)).save(partial, format="PNG")


def _grown(image: NDArray[Number], scale: int) -> NDArray[Number]:
    return image.repeat(scale, axis=0).repeat(scale, axis=1)


def _outline(mask: Labels) -> NDArray[np.bool_]:
    """Pixels of an object with a neighbour of another number."""
    padded = np.pad(mask, 1)
    inner = padded[1:-1, 1:-1]
    others = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    return np.asarray((inner > 0) & np.any([inner != other for other in others], axis=0))


def _tinted(image: Pixels, mask: Labels) -> Pixels:
    ids, places = np.unique(mask, return_inverse=True)
    colours = np.array([colour_of(int(number)) for number in ids], dtype=np.float64)[
        places.reshape(mask.shape)
    ]
    mixed = np.where(mask[..., None] > 0, 0.5 * image + 0.5 * colours, image)
    edge = _outline(mask)
    mixed[edge] = np.where((image[edge] == WHITE).all(-1, keepdims=True), WHITE, colours[edge])
    return mixed.astype(np.uint8)


def _rows_of(shown: Tracked, index: int) -> Rows:
    """(n, 5) id, x, y, w, h in a frame."""
    if shown.objects is not None:
        return shown.objects[shown.objects[:, 0] == index, 1:6]
    if shown.boxes is not None and np.isfinite(shown.boxes[index]).all():
        return np.array([[1.0, *shown.boxes[index]]])
    return np.zeros((0, 5))


def _draw_boxes(draw: ImageDraw.ImageDraw, shown: Tracked, index: int, scale: int, thin: bool) -> None:
    for number, x, y, w, h in _rows_of(shown, index):
        colour = WHITE if thin else colour_of(int(number))
        corners = (scale * x, scale * y, scale * (x + max(w, 1)) - 1, scale * (y + max(h, 1)) - 1)
        draw.rectangle(corners, outline=colour, width=1 if thin else 3)
        if not thin and shown.objects is not None:
            _text(draw, (corners[0] + 3, corners[1] + 2), str(int(number)), colour)


def _draw_points(draw: ImageDraw.ImageDraw, shown: Tracked, index: int, scale: int, thin: bool) -> None:
    for figure, points in (shown.keypoints or {}).items():
        for x, y in points[index]:
            if x < 0 or y < 0:
                continue
            radius = 5 if thin else 4
            place = (scale * x - radius, scale * y - radius, scale * x + radius, scale * y + radius)
            if thin:
                draw.ellipse(place, outline=WHITE)
            else:
                draw.ellipse(place, fill=colour_of(figure))


def _text(draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, colour: Colour) -> None:
    draw.text(place, text, fill=colour, font=ImageFont.load_default(), stroke_width=1, stroke_fill=(0, 0, 0))
