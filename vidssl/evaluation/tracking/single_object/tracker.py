"""Following one box: crop where the object was, at three sizes, and let a filter say where it went (one-pass evaluation).

The loop and its constants are those of UniTrack (Wang et al. 2021, arXiv 2107.02156) and of DCFNet before it. Two of the
reference's slips are corrected unless `legacy=True`: its correlation head takes the peak of an object at rest to be one cell
off and measures its way in 1/52 of the window where a cell is 1/65; its Fourier head loses a column of the response. Beside
these, the legacy loop places the centre half a pixel off and mixes height with width in the largest size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vidssl.errors import VidsslError, check_choice
from vidssl.evaluation.tracking.overlap import Array, as_array, is_box
from vidssl.evaluation.tracking.single_object.crops import MEAN_COLOUR, crop_windows
from vidssl.evaluation.tracking.single_object.filters import (
    CorrelationFilter,
    centre_block,
    correlation_response,
)

PADDING = 3.5  # the window is 1 + PADDING times as wide and high as the object
# Sizes that are tried, and what a change of size costs. The unchanged one comes first: ties leave things as they are.
SCALES = np.array([1.0, 1 / 1.0275, 1.0275])
PENALTIES = np.array([1.0, 0.985, 0.985])
RATE = 0.01  # of the Fourier filter's update in every frame
SMALLEST, LARGEST = 0.2, 5.0  # sizes, in those of the first box
SMALLEST_PIXELS = 4.0


class _Head(Protocol):
    """What finds the object in features (D, s, s) of a window."""

    def update(self, features: Tensor, rate: float) -> None: ...

    def response(self, features: Tensor) -> Tensor: ...

    def displacement(self, response: Tensor) -> Array:
        """(x, y) of the peak, in windows."""
        ...


class _Fourier(CorrelationFilter):
    def displacement(self, response: Tensor) -> Array:
        # The legacy response lacks a column, but is read as if it did not.
        row, column = divmod(int(response.argmax()), self.size)
        cells = np.array([column, row], dtype=np.float64)
        return np.where(cells > self.size / 2, cells - self.size, cells) / self.size


class _Correlation:
    def __init__(self, size: int, legacy: bool = False) -> None:
        self.size, self.legacy = size, legacy
        self._block = centre_block(size, PADDING)
        self._template: Tensor | None = None

    def update(self, features: Tensor, rate: float) -> None:
        if self._template is None:  # the first frame's, never changed
            self._template = features[:, self._block, self._block]

    def response(self, features: Tensor) -> Tensor:
        assert self._template is not None
        return correlation_response(self._template, features)

    def displacement(self, response: Tensor) -> Array:
        rest, places = self._block.start, response.shape[0]
        peak = response.argmax()
        if not self.legacy and response[rest, rest] >= response.flatten()[peak]:
            return np.zeros(2)
        cells = np.array([peak % places, peak // places], dtype=np.float64)
        return (cells - places / 2) / places if self.legacy else (cells - rest) / self.size


HEADS: dict[str, Callable[..., _Head]] = {"dcf": _Fourier, "xcorr": _Correlation}


@torch.no_grad()
def track_box(
    extract: Callable[[Tensor], Tensor],
    frames: Iterable[Tensor],
    box: Any,
    head: str = "dcf",
    crop: int = 520,
    legacy: bool = False,
    border: Sequence[float] = MEAN_COLOUR,
) -> Array:
    """Follow the object of the first frame's box.

    Args:
        extract: crops (N, 3, crop, crop) in [0, 1], each an image of its own, -> features (N, D, s, s); 3 crops a frame, and
            one more for "dcf". The published size has s = 65.
        frames: T images (3, H, W), RGB in [0, 1].
        box: (x, y, w, h) in the first frame, in pixels, the frame's upper left corner at (0, 0).
        head: "dcf" (a filter that follows the object's looks) or "xcorr" (the first frame's features as they are).
        crop: side of the crops in pixels; s must come out as at least 9.
        legacy: with the reference's slips.
        border: RGB of what is outside of the frame; the mean that `extract` subtracts.

    Returns:
        (T, 4) boxes, the first as given.

    Raises:
        VidsslError: no frames; a first box that is not finite, has no area or shows nothing of the frame; features that are
            not square, too coarse, or not finite.
    """
    check_choice("head", head, HEADS)
    first = as_array(box)
    if first.shape != (4,) or not is_box(first):
        raise VidsslError(f"first box {first.tolist()}: must be x, y, w, h, finite, w and h above 0")
    corner = 0.0 if legacy else 0.5  # from the edge of a pixel to its centre, which has whole coordinates
    position, size = first[:2] + first[2:] / 2 - corner, first[2:]

    def look(index: int, frame: Tensor, position: Array, sizes: Array) -> Tensor:
        half = sizes * (1 + PADDING) / 2
        windows = np.concatenate((position - half, position + half), axis=-1)
        return _checked(extract(crop_windows(frame, windows, crop, border)), len(sizes), index)

    found: _Head | None = None
    boxes = []
    for index, frame in enumerate(frames):
        extent = np.array([frame.shape[2], frame.shape[1]], dtype=np.float64)
        if found is None:
            if not ((first[:2] < extent) & (first[:2] + first[2:] > 0)).all():
                raise VidsslError(
                    f"first box {first.tolist()}: outside of the frame of {extent.tolist()} pixels"
                )
            features = look(index, frame, position, size[None])
            found = HEADS[head](features.shape[-1], legacy=legacy)
            found.update(features[0], rate=1)
            smallest = np.maximum(SMALLEST * size, SMALLEST_PIXELS)
            largest = np.minimum(extent[::-1] if legacy else extent, LARGEST * size)
            boxes.append(first)
            continue
        sizes = size * SCALES[:, None]
        responses = [found.response(seen) for seen in look(index, frame, position, sizes)]
        best = int(np.argmax([float(r.max()) for r in responses] * PENALTIES))
        position = position + found.displacement(responses[best]) * sizes[best] * (1 + PADDING)
        size = np.clip(sizes[best], smallest, largest)
        if head == "dcf":
            found.update(look(index, frame, position, size[None])[0], RATE)
        boxes.append(np.concatenate((position + corner - size / 2, size)))
    if not boxes:
        raise VidsslError("no frames to follow a box in")
    return np.stack(boxes)


def _checked(features: Tensor, count: int, frame: int) -> Tensor:
    if features.ndim != 4 or len(features) != count or features.shape[2] != features.shape[3]:
        raise VidsslError(
            f"features of shape {tuple(features.shape)} of {count} square crops: must be ({count}, D, s, s)"
        )
    if not bool(features.isfinite().all()):
        raise VidsslError(f"frame {frame}: its features are not finite")
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features
