"""CLEAR: how many boxes or masks were found, and how often one changed hands (Bernardin & Stiefelhagen 2008).

Frame by frame, true objects and tracks are paired at an overlap of at least `iou`, the pairs of the frame before first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vidssl.evaluation.tracking.many_objects.assignment import best_pairs
from vidssl.evaluation.tracking.many_objects.comparing import Comparison, compare_boxes, compare_masks

# A pair of the frame before outweighs any overlap.
CONTINUED = 1000.0
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Counts:
    """Of a video: pairs and the sum of their overlaps, tracked and true objects without a partner, changes of identity, and
    how many true ones there are, each counted once a frame."""

    pairs: int
    overlap: float
    wrong: int
    missed: int
    switches: int
    true: int

    def accuracy(self, found: float) -> float:
        """Of what there is, what was found less what is wrong: at most 1, negative where more is wrong than found, 0 of nothing."""
        return (found - self.wrong - self.switches) / self.true if self.true else 0.0

    def mean_overlap(self) -> float:
        """Of the pairs; 0 if there are none."""
        return self.overlap / max(1, self.pairs)


def clear_mot(true: Any, tracked: Any, iou: float = 0.5) -> dict[str, float]:
    """Boxes against true boxes.

    Args:
        true, tracked: rows (frame, id, x, y, w, h), as `compare_boxes` takes them.
        iou: overlap from which on a pair counts.

    Returns:
        MOTA = 1 - (FN + FP + IDSW) / true boxes, MOTP (mean IoU of the pairs), FP, FN, IDSW (a true object that is paired with
        another track than it was last). MOTA of no true
        box at all is 0: look at FP.

    Raises:
        VidsslError: as `compare_boxes`.
    """
    counts = count_pairs(compare_boxes(true, tracked), iou)
    return {
        "MOTA": counts.accuracy(counts.pairs),
        "MOTP": counts.mean_overlap(),
        "FP": counts.wrong,
        "FN": counts.missed,
        "IDSW": counts.switches,
    }


def clear_mots(
    true: Sequence[Any], tracked: Sequence[Any], iou: float = 0.5, ignore: int | None = None
) -> dict[str, float]:
    """Masks against true masks (Voigtlaender et al. 2019, "MOTS", section 4).

    Args:
        true, tracked: T label maps, as `compare_masks` takes them, with `ignore`.
        iou: overlap from which on a pair counts.

    Returns:
        sMOTSA = (sum of the pairs' IoU - FP - IDSW) / true masks, MOTSA with the number of pairs in place of the sum, MOTSP
        (mean IoU of the pairs), FP, FN, IDSW.

    Raises:
        VidsslError: as `compare_masks`.
    """
    counts = count_pairs(compare_masks(true, tracked, ignore), iou)
    return {
        "sMOTSA": counts.accuracy(counts.overlap),
        "MOTSA": counts.accuracy(counts.pairs),
        "MOTSP": counts.mean_overlap(),
        "FP": counts.wrong,
        "FN": counts.missed,
        "IDSW": counts.switches,
    }


def count_pairs(comparison: Comparison, iou: float) -> Counts:
    """Pair objects with tracks in every frame. A frame that lacks either does not end what was before it."""
    before = np.full(
        len(comparison.true_lengths), -1
    )  # the track of each object in the last frame with pairs to make
    last = before.copy()  # and the last it ever had
    pairs = switches = 0
    overlap = 0.0
    for frame in comparison.frames:
        if not frame.iou.size:
            continue
        possible = frame.iou >= iou - EPS
        continued = before[frame.true][:, None] == frame.tracked
        chosen = best_pairs(np.where(possible, CONTINUED * continued + frame.iou, 0))
        rows, columns = chosen[possible[chosen[:, 0], chosen[:, 1]]].T
        objects, tracks = frame.true[rows], frame.tracked[columns]
        switches += int(((last[objects] >= 0) & (last[objects] != tracks)).sum())
        before[:] = -1
        before[objects] = last[objects] = tracks
        pairs += len(rows)
        overlap += float(frame.iou[rows, columns].sum())
    true, tracked = int(comparison.true_lengths.sum()), int(comparison.tracked_lengths.sum())
    return Counts(pairs, overlap, tracked - pairs, true - pairs, switches, true)
