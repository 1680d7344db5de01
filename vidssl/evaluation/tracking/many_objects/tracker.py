"""Names for the detections of a video, from what an encoder says of each and where it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vidssl.errors import VidsslError, check_choice
from vidssl.evaluation.tracking.many_objects.assignment import Indices
from vidssl.evaluation.tracking.many_objects.detections import Detections, Masks, Skeleton, draw_pose
from vidssl.evaluation.tracking.many_objects.life import KEPT, RULES, Tracks
from vidssl.evaluation.tracking.many_objects.observations import box_features, mask_features
from vidssl.evaluation.tracking.overlap import Array

# Of two masks that overlap by more, the one with the lower score is left out.
SAME_MASK = 0.7
KINDS = {"mot": "boxes", "mots": "masks", "pose": "points"}


@dataclass(frozen=True, eq=False)
class Tracked:
    """The named detections of a video.

    Attributes:
        rows: (R, 6) frame (from 0), id (from 1), and x, y, w, h as they were detected; by frame.
        detections: (R,) which of the frame's detections each row is.
        left_out: (L, 2) frame and detection of what could not be used: without area, outside of the frame, an empty mask, or a
            mask that was there twice.
    """

    rows: Array
    detections: Indices
    left_out: Indices

    def label_maps(self, detections: Sequence[Detections], size: tuple[int, int]) -> list[NDArray[np.int64]]:
        """The masks that were detected, one map (H, W) a frame: 0 = background, else the id; the surest mask in front."""
        maps = []
        for time, found in enumerate(detections):
            here = self.rows[:, 0] == time
            which, ids = self.detections[here], self.rows[here, 1].astype(np.int64)
            labels = np.zeros(size, dtype=np.int64)
            for k in np.argsort(found.scores[which], kind="stable"):
                labels[found.masks[which[k]]] = ids[k]
            maps.append(labels)
        return maps


@torch.no_grad()
def track_objects(
    features: Iterable[Tensor],
    detections: Iterable[Detections],
    stride: float,
    task: str = "mot",
    weight: float = 1.0,
    gate: bool = False,
    overlap: bool = True,
    frame_rate: float = 30.0,
    skeleton: Skeleton | None = None,
    temperature: float = 100.0,
) -> Tracked:
    """Tell which detections are the same object.

    Args:
        features: of T frames, each (D, h, w); any norm.
        detections: of the same frames; boxes for "mot", masks for "mots", points for "pose".
        stride: pixels per cell.
        task: "mot", "mots" or "pose": the kind of detections, and the published constants (`RULES`).
        weight: of looks against motion; 1, the default for comparing encoders, leaves motion out. Published with motion:
            `RULES[task].weight`.
        gate: shut out what motion makes improbable. Published: `RULES[task].gate`.
        overlap: False leaves all to looks. By default a track that is not recognised by its looks is still found at the place
            where it is expected, which hides bad features.
        frame_rate: frames a second; a lost object can come back within a second.
        skeleton: of poses; by default all joints of a pose are joined.
        temperature: factor of the inner products, as of `reconstruction_cost`.

    Returns:
        Names, with the detections as they came. The published filter of results (area above 200 pixels, at most 1.6 times as
        wide as high), made for pedestrians, is not applied.

    Raises:
        VidsslError: features and detections of different number; detections of another kind; an unknown task; features that are
            not finite.
    """
    check_choice("task", task, RULES)
    patience = int(frame_rate * KEPT)
    tracks = Tracks(RULES[task], weight, gate, overlap, patience, temperature)
    rows, chosen, left_out = [], [], []
    for time, (cells, found) in enumerate(_together(features, detections)):
        usable, looks = _observe(time, cells, found, stride, task, skeleton)
        for track in tracks.step(time, looks, found.boxes[usable], found.scores[usable]):
            which = int(usable[track.detection])
            rows.append([time, track.identity, *found.boxes[which]])
            chosen.append(which)
        left_out += [(time, which) for which in np.setdiff1d(np.arange(len(found)), usable)]
    return Tracked(
        np.array(rows, dtype=np.float64).reshape(-1, 6),
        np.array(chosen, dtype=np.int64),
        np.array(left_out, dtype=np.int64).reshape(-1, 2),
    )


def _together(
    features: Iterable[Tensor], detections: Iterable[Detections]
) -> Iterator[tuple[Tensor, Detections]]:
    for time, (cells, found) in enumerate(zip_longest(features, detections)):
        if cells is None or found is None:
            more, fewer = ("detections", "features") if cells is None else ("features", "detections")
            raise VidsslError(f"{fewer} of {time} frames, {more} of more: must be as many")
        yield cells, found


def _observe(
    time: int, cells: Tensor, found: Detections, stride: float, task: str, skeleton: Skeleton | None
) -> tuple[Indices, list[Tensor]]:
    """Which of the frame's detections there is anything of, and the features of these."""
    if found.kind != KINDS[task]:
        raise VidsslError(f"frame {time}: detections as {found.kind}: task={task} takes {KINDS[task]}")
    if not bool(cells.isfinite().all()):
        raise VidsslError(f"frame {time}: its features are not finite")
    h, w = cells.shape[-2:]
    size = (int(h * stride), int(w * stride))
    usable = np.flatnonzero(found.within(size))
    if task == "mot":
        return usable, box_features(cells, found.boxes[usable], stride)
    if task == "mots":
        if np.any(np.abs(np.array(found.masks.shape[1:]) / stride - (h, w)) >= 1):
            raise VidsslError(
                f"frame {time}: masks of {found.masks.shape[1:]} pixels, features of {h} x {w} cells of {stride:g} pixels: "
                "must be of the same frame"
            )
        usable = _distinct(found.masks, found.scores, usable)
        masks = found.masks[usable]
    else:
        masks = np.array([draw_pose(found.points[which], size, skeleton) for which in usable]).reshape(
            -1, *size
        )
        usable, masks = usable[masks.any((1, 2))], masks[masks.any((1, 2))]
    return usable, mask_features(cells, masks, stride, RULES[task].area)


def _distinct(masks: Masks, scores: Array, usable: Indices) -> Indices:
    """Those of `usable` that no surer one nearly coincides with."""
    pixels = rearrange(masks[usable], "n h w -> n (h w)").astype(np.float32)
    shared = pixels @ pixels.T
    areas = shared.diagonal()
    same = shared > SAME_MASK * (areas[:, None] + areas - shared)
    kept: list[int] = []
    for which in np.argsort(-scores[usable], kind="stable"):
        if not same[which, kept].any():
            kept.append(int(which))
    return usable[sorted(kept)]
