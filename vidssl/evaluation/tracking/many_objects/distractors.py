"""Boxes that may be tracked and need not be: people on vehicles, statues, reflections (Milan et al. 2016, arXiv 1603.00831, section 4).

In MOT16, MOT17 and MOT20 what a tracker finds on them is neither right nor wrong, and is taken away before anything is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vidssl.evaluation.tracking.many_objects.assignment import best_pairs
from vidssl.evaluation.tracking.overlap import Array, as_array, pairwise_iou

LEAST = 0.5 - np.finfo(float).eps  # of the overlap of two boxes that are one


def without_distractors(true: Any, others: Any, tracked: Any) -> Array:
    """What is left of `tracked` when, frame by frame, boxes were paired with all there are in the truth, so that overlap is largest,
    and those paired with distractors are left out.

    Args:
        true, tracked: rows (frame, id, x, y, w, h).
        others: (K, 6) rows (frame, x, y, w, h, distractor) of what is not counted; those that are no distractors (0) keep a box
            from being paired with one that is (1).
    """
    truth, beside, result = as_array(true), as_array(others), as_array(tracked)
    if not len(result) or not len(beside):
        return result
    boxes = np.concatenate([truth[:, [0, 2, 3, 4, 5]].reshape(-1, 5), beside[:, :5]])
    distracts = np.concatenate([np.zeros(len(truth)), beside[:, 5]]) > 0
    kept = np.ones(len(result), dtype=np.bool_)
    for time in np.unique(beside[distracts[len(truth) :], 0]):
        here, there = boxes[:, 0] == time, np.flatnonzero(result[:, 0] == time)
        overlap = pairwise_iou(boxes[here, 1:], result[there, 2:])
        overlap[overlap < LEAST] = 0
        for row, column in best_pairs(overlap):
            if overlap[row, column] > 0 and distracts[here][row]:
                kept[there[column]] = False
    return result[kept]
