"""Features of a whole sequence: frames read, resized and encoded a few at a time, and where a pixel lies on their grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluation.tracking.run.sources import Source, require_finite
from vidssl.evaluation.tracking.sequence import Sequence

PIXELS = 2**23  # of frames in memory as floats at a time


class Grid(NamedTuple):
    """How a map of cells lies on a frame: cell (i, j) begins at pixel (i, j) · cell.

    Attributes:
        cell: (height, width) of a cell in pixels of the frame as it is.
        size: (h, w) cells; the last ones may reach over the frame.
    """

    cell: tuple[float, float]
    size: tuple[int, int]


def shown_size(size: tuple[int, int], short: int | None) -> tuple[int, int]:
    """(H, W) of frames whose short side is made `short` pixels."""
    if short is None:
        return size
    scale = short / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def grid_of(sequence: Sequence, stride: int, short: int | None) -> Grid:
    """Where the cells of a sequence's features lie on its frames."""
    frame, shown = sequence.size, shown_size(sequence.size, short)
    return Grid(
        (stride * frame[0] / shown[0], stride * frame[1] / shown[1]),
        (-(-shown[0] // stride), -(-shown[1] // stride)),
    )


def frame_features(source: Source, sequence: Sequence, short: int | None, start: int, stop: int) -> Tensor:
    """(stop - start, D, h, w) of some frames.

    Raises:
        NotFiniteError: features that are not finite. VidsslError: a frame that cannot be read.
    """
    first = max(start - source.before, 0)
    shown = sequence.clip(first, stop).to(source.device)
    size = shown_size(sequence.size, short)
    if size != sequence.size:
        shown = F.interpolate(shown, size, mode="bilinear", align_corners=False, antialias=True)
    found = source.features(shown)[start - first :]
    return require_finite(source, found, sequence.name)


def pieces(sequence: Sequence) -> Iterator[tuple[int, int]]:
    """Starts and ends of as many frames as are held at a time."""
    height, width = sequence.size
    step = max(1, PIXELS // (height * width))
    for start in range(0, len(sequence), step):
        yield start, min(start + step, len(sequence))


def each_frame(source: Source, sequence: Sequence, short: int | None) -> Iterator[Tensor]:
    """(D, h, w) of one frame after the other. Errors as of `frame_features`."""
    for start, stop in pieces(sequence):
        yield from frame_features(source, sequence, short, start, stop)


def sequence_features(source: Source, sequence: Sequence, short: int | None) -> Tensor:
    """(T, D, h, w) of all frames of a sequence. Errors as of `frame_features`."""
    grid = grid_of(sequence, source.stride, short)
    features = torch.empty(len(sequence), source.dim, *grid.size, device=source.device)
    for start, stop in pieces(sequence):
        features[start:stop] = frame_features(source, sequence, short, start, stop)
    return features
