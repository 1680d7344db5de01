"""Truth and result side by side, frame by frame: who is there, and how much they overlap. All scores begin from this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.many_objects.assignment import Indices
from vidssl.evaluation.tracking.overlap import Array, as_array, pairwise_iou


@dataclass(frozen=True)
class Frame:
    """One frame of both.

    Attributes:
        true: (n,) which true objects are there, numbered from 0 over the whole video.
        tracked: (m,) which tracks are.
        iou: (n, m).
    """

    true: Indices
    tracked: Indices
    iou: Array


@dataclass(frozen=True)
class Comparison:
    """All frames that show anything, in the order of time.

    Attributes:
        frames: of the video.
        true_lengths: (G,) in how many frames each true object is.
        tracked_lengths: (R,) in how many frames each track is.
    """

    frames: list[Frame]
    true_lengths: Indices
    tracked_lengths: Indices


def compare_boxes(true: Any, tracked: Any) -> Comparison:
    """Boxes against boxes.

    Args:
        true, tracked: rows (frame, id, x, y, w, h) in any order; frames and ids are any numbers. A box that is not finite or
            has no area overlaps with none, so that it is missed, or wrong.

    Raises:
        VidsslError: no such rows; a frame or id that is not finite; an id twice in a frame.
    """
    truth, result = _rows("true", true), _rows("tracked", tracked)
    times = np.union1d(truth[:, 0], result[:, 0])
    (true_ids, true_of), (tracked_ids, tracked_of) = (_numbered(rows[:, 1]) for rows in (truth, result))
    frames = []
    for time in times:
        here, there = truth[:, 0] == time, result[:, 0] == time
        iou = pairwise_iou(truth[here, 2:], result[there, 2:])
        frames.append(Frame(true_of[here], tracked_of[there], iou))
    return _comparison(frames, len(true_ids), len(tracked_ids))


def compare_masks(true: Sequence[Any], tracked: Sequence[Any], ignore: int | None = None) -> Comparison:
    """Label maps against label maps.

    Args:
        true, tracked: T maps (H, W) of whole numbers: 0 = background, else the id.
        ignore: id of a region of `true` whose objects are not told apart (10000 in MOTS): a track that lies in it by more than
            half is left out there, and so cannot be wrong.

    Raises:
        VidsslError: maps that do not match in number or size.
    """
    if len(true) != len(tracked):
        raise VidsslError(
            f"{len(true)} frames of true masks, {len(tracked)} of tracked ones: must be as many"
        )
    seen = []
    for index, (first, second) in enumerate(zip(true, tracked, strict=True)):
        a, b = as_array(first).astype(np.int64), as_array(second).astype(np.int64)
        if a.shape != b.shape:
            raise VidsslError(
                f"frame {index}: true mask of {a.shape}, tracked one of {b.shape} pixels: must be as large"
            )
        seen.append(_overlaps(a, b, ignore))
    ids = [np.unique(np.concatenate([x[side] for x in seen] or [np.zeros(0)])) for side in (0, 1)]
    frames = [Frame(np.searchsorted(ids[0], t), np.searchsorted(ids[1], r), iou) for t, r, iou in seen]
    return _comparison(frames, len(ids[0]), len(ids[1]))


def _overlaps(true: Indices, tracked: Indices, ignore: int | None) -> tuple[Indices, Indices, Array]:
    """Ids of two label maps, and the IoU of each pair."""
    (true_ids, rows), (tracked_ids, columns) = (_numbered(x.ravel()) for x in (true, tracked))
    shape = (len(true_ids), len(tracked_ids))
    shared = (
        np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
        .reshape(shape)
        .astype(np.float64)
    )
    areas = shared.sum(0)
    iou = shared / (shared.sum(1)[:, None] + areas - shared)
    objects = (true_ids != 0) & (true_ids != (0 if ignore is None else ignore))
    tracks = tracked_ids != 0
    if ignore is not None:
        tracks &= shared[true_ids == ignore].sum(0) <= areas / 2
    return true_ids[objects], tracked_ids[tracks], iou[objects][:, tracks]


def _comparison(frames: list[Frame], true: int, tracked: int) -> Comparison:
    lengths = [np.zeros(0, dtype=np.int64)]
    return Comparison(
        [frame for frame in frames if frame.iou.shape != (0, 0)],
        np.bincount(np.concatenate(lengths + [frame.true for frame in frames]), minlength=true),
        np.bincount(np.concatenate(lengths + [frame.tracked for frame in frames]), minlength=tracked),
    )


def _numbered(ids: NDArray[Any]) -> tuple[NDArray[Any], Indices]:
    """The distinct ids, and which of them each is."""
    distinct, which = np.unique(ids, return_inverse=True)
    return distinct, which.reshape(-1).astype(np.int64)


def _rows(what: str, values: Any) -> Array:
    rows = as_array(values)
    rows = rows.reshape(0, 6) if rows.size == 0 else rows
    if rows.ndim != 2 or rows.shape[1] != 6:
        raise VidsslError(f"{what} rows of shape {rows.shape}: must be (N, 6): frame, id, x, y, w, h")
    if not np.isfinite(rows[:, :2]).all():
        raise VidsslError(f"{what} rows: a frame or an id is not finite")
    once, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
    if (counts > 1).any():
        frame, identity = once[counts > 1][0]
        raise VidsslError(f"{what} rows: id {identity:g} stands twice in frame {frame:g}: must be once")
    return rows
