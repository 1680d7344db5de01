"""How well one object's box was followed (one-pass evaluation, Wu, Lim & Yang 2015, "Object Tracking Benchmark").

Boxes are (T, 4) rows (x, y, w, h), of any origin as long as it is the same. A frame whose true box is not finite or has no
area is a miss, as is one whose predicted box is not finite: neither is left out, and neither ever counts in favour.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.overlap import Array, as_array, box_iou, is_box

# IoU above which a frame is a success: 0, 0.05, ..., 1. None exceeds the last, so that a perfect AUC is 20/21.
THRESHOLDS = np.arange(21) / 20


def success_curve(predicted: Any, true: Any) -> Array:
    """Fraction of frames with an IoU above each of the 21 thresholds 0, 0.05, ..., 1.

    Args:
        predicted, true: (T, 4).

    Returns:
        (21,), falling, the last 0.

    Raises:
        VidsslError: if the shapes differ, or there is no frame.
    """
    boxes, truth = _both(predicted, true)
    overlap = np.where(is_box(truth), box_iou(boxes, truth), -1.0)
    return np.asarray((overlap[:, None] > THRESHOLDS).mean(0))


def success_auc(predicted: Any, true: Any) -> float:
    """Mean of `success_curve`: 20/21 at best. Arguments and errors as there."""
    return float(success_curve(predicted, true).mean())


def precision(predicted: Any, true: Any, pixels: float = 20) -> float:
    """Fraction of frames whose centres are at most `pixels` apart. Arguments and errors as of `success_curve`.

    It depends on the size of the video and of the object; `normalised_precision` on neither.
    """
    boxes, truth = _both(predicted, true)
    return _near(_centre(boxes) - _centre(truth), truth, pixels)


def normalised_precision(predicted: Any, true: Any, at: float = 0.2) -> float:
    """Fraction of frames whose centres are at most `at` apart, in widths and heights of the true box (Müller et al. 2018,
    "TrackingNet", section 5). Arguments and errors as of `success_curve`."""
    boxes, truth = _both(predicted, true)
    size = np.where(is_box(truth)[:, None], truth[:, 2:], 1.0)
    return _near((_centre(boxes) - _centre(truth)) / size, truth, at)


def _centre(boxes: Array) -> Array:
    return boxes[:, :2] + boxes[:, 2:] / 2


def _near(offset: Array, truth: Array, limit: float) -> float:
    # A nan is not <= anything.
    return float((is_box(truth) & (np.hypot(offset[:, 0], offset[:, 1]) <= limit)).mean())


def _both(predicted: Any, true: Any) -> tuple[Array, Array]:
    boxes, truth = as_array(predicted), as_array(true)
    if boxes.shape != truth.shape or truth.ndim != 2 or truth.shape[1] != 4 or not len(truth):
        raise VidsslError(
            f"boxes of shape {boxes.shape} against true ones of shape {truth.shape}: both must be (T, 4), T at least 1"
        )
    # An infinite box lies nowhere; as nan it is near nothing.
    return np.where(np.isfinite(boxes), boxes, np.nan), np.where(np.isfinite(truth), truth, np.nan)
