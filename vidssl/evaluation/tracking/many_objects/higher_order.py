"""HOTA: finding and naming in one number, at all degrees of overlap (Luiten et al. 2020, arXiv 2009.07736)."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidssl.evaluation.tracking.many_objects.assignment import best_pairs
from vidssl.evaluation.tracking.many_objects.comparing import Comparison, compare_boxes

# Overlaps from which on a pair counts: 0.05, 0.1, ..., 0.95.
THRESHOLDS = np.arange(1, 20) / 20
EPS = float(np.finfo(np.float64).eps)


def hota(true: Any, tracked: Any) -> dict[str, float]:
    """Pair objects with tracks in every frame so that the pairs overlap and are the same throughout the video.

    Args:
        true, tracked: rows (frame, id, x, y, w, h), as `compare_boxes` takes them.

    Returns:
        Means over the 19 thresholds 0.05, ..., 0.95 of: DetA, the IoU of the set of true boxes with the set of tracked ones;
        AssA, the mean over pairs of the IoU of the object's and the track's lives; HOTA = √(DetA AssA). Ratios of nothing are 0.

    Raises:
        VidsslError: as `compare_boxes`.
    """
    return hota_scores(compare_boxes(true, tracked))


def hota_scores(comparison: Comparison) -> dict[str, float]:
    """`hota` of a comparison of boxes or masks."""
    lives, tracks = comparison.true_lengths[:, None], comparison.tracked_lengths
    shared = np.zeros((len(lives), len(tracks)))  # frames that an object and a track could have in common
    for frame in comparison.frames:
        both = frame.iou.sum(0) + frame.iou.sum(1)[:, None] - frame.iou
        shared[np.ix_(frame.true, frame.tracked)] += np.divide(
            frame.iou, both, where=both > EPS, out=np.zeros_like(both)
        )
    likeness = shared / (lives + tracks - shared)
    matches = np.zeros((len(THRESHOLDS), *shared.shape))
    for frame in comparison.frames:
        rows, columns = best_pairs(likeness[np.ix_(frame.true, frame.tracked)] * frame.iou).T
        counted = frame.iou[rows, columns] >= THRESHOLDS[:, None] - EPS
        matches[:, frame.true[rows], frame.tracked[columns]] += counted
    pairs = matches.sum((1, 2))
    association = (matches * matches / np.maximum(1, lives + tracks - matches)).sum((1, 2)) / np.maximum(
        1, pairs
    )
    detection = pairs / np.maximum(1, lives.sum() + tracks.sum() - pairs)
    return {
        "HOTA": float(np.sqrt(detection * association).mean()),
        "DetA": float(detection.mean()),
        "AssA": float(association.mean()),
    }
