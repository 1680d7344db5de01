"""IDF1: for how long each object was called by one name (Ristani et al. 2016, arXiv 1609.01775)."""

from __future__ import annotations

from typing import Any

import numpy as np

from vidssl.evaluation.tracking.many_objects.assignment import best_pairs
from vidssl.evaluation.tracking.many_objects.comparing import Comparison, compare_boxes


def identity_f1(true: Any, tracked: Any, iou: float = 0.5) -> dict[str, float]:
    """Pair each true object with at most one track for the whole video, so that most boxes agree.

    Args:
        true, tracked: rows (frame, id, x, y, w, h), as `compare_boxes` takes them.
        iou: overlap from which on two boxes agree.

    Returns:
        IDF1 = 2 IDTP / (true boxes + tracked boxes), IDP (of the tracked), IDR (of the true), IDTP, IDFP, IDFN. Ratios of nothing
        are 0.

    Raises:
        VidsslError: as `compare_boxes`.
    """
    return identity_scores(compare_boxes(true, tracked), iou)


def identity_scores(comparison: Comparison, iou: float = 0.5) -> dict[str, float]:
    """`identity_f1` of a comparison of boxes or masks."""
    agreeing = np.zeros((len(comparison.true_lengths), len(comparison.tracked_lengths)))
    for frame in comparison.frames:
        agreeing[np.ix_(frame.true, frame.tracked)] += frame.iou >= iou
    pairs = best_pairs(agreeing)
    right = int(agreeing[pairs[:, 0], pairs[:, 1]].sum())
    true, tracked = int(comparison.true_lengths.sum()), int(comparison.tracked_lengths.sum())
    return {
        "IDF1": 2 * right / max(1, true + tracked),
        "IDP": right / max(1, tracked),
        "IDR": right / max(1, true),
        "IDTP": right,
        "IDFP": tracked - right,
        "IDFN": true - right,
    }
