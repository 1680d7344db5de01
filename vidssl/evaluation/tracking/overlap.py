"""Boxes (x, y, w, h) as arrays, and how much two of them overlap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def as_array(values: Any) -> Array:
    """A tensor, an array or nested lists as a float64 array."""
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)


def is_box(boxes: Array) -> NDArray[np.bool_]:
    """(..., 4) -> (...): finite, and with an area."""
    return np.asarray(np.isfinite(boxes).all(-1) & (boxes[..., 2] > 0) & (boxes[..., 3] > 0))


def box_iou(first: Array, second: Array) -> Array:
    """Area of the intersection over that of the union, of boxes that broadcast against each other: (..., 4) -> (...).

    It is 0 for what is no box (`is_box`), and never exceeds 1.
    """
    valid = is_box(first) & is_box(second)
    a, b = (np.where(valid[..., None], boxes, 1.0) for boxes in (first, second))
    upper = np.maximum(a[..., :2], b[..., :2])
    lower = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = np.clip(lower - upper, 0, None).prod(-1)
    union = a[..., 2] * a[..., 3] + b[..., 2] * b[..., 3] - shared
    return np.asarray(np.where(valid, np.minimum(shared / union, 1), 0.0))


def pairwise_iou(first: Array, second: Array) -> Array:
    """(n, 4), (m, 4) -> (n, m)."""
    return box_iou(first.reshape(-1, 1, 4), second.reshape(1, -1, 4))
