"""Tasks ``mot`` and ``mots``: detections of every frame, told which are the same object."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidssl.evaluation.tracking.association import (
    Detections,
    clear_mot,
    clear_mots,
    compare_boxes,
    compare_masks,
    hota_scores,
    identity_scores,
    track_objects,
    without_distractors,
)
from vidssl.evaluation.tracking.run.features import Grid, each_frame, grid_of
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.sources import COPY, Source
from vidssl.evaluation.tracking.run.task import Labels, Rows, Scores, Tracked
from vidssl.evaluation.tracking.sequence import Lazy, Mask
from vidssl.evaluation.tracking.sequence import Sequence as Frames

KEPT = 2**30  # bytes of features that are kept for a second use rather than made again
PLACE = "place alone"  # a baseline: nothing but overlap with where an object is expected
FRAME_RATE = 30.0
LOOKS = "IDF1 by looks"
Maps = Lazy[Mask | None]


class ManyBoxes:
    """Boxes of many objects. Their places are given, so that what is scored is whether the same object keeps its name."""

    counts = frozenset({"IDSW", "FP", "FN"})
    metrics: tuple[str, ...] = ("IDF1", "HOTA", "IDSW", LOOKS, "MOTA", "DetA", "AssA", "MOTP", "FP", "FN")
    task = "mot"

    def __init__(self, options: TrackOptions) -> None:
        self._options = options

    def lacks(self, sequence: Frames) -> str | None:
        if self._options.detections == "truth":
            return (
                None if sequence.objects is not None and len(sequence.objects) else "no true boxes of objects"
            )
        return None if sequence.detections is not None and len(sequence.detections) else "no detections"

    def unscored(self, sequence: Frames) -> str | None:
        return None if sequence.objects is not None and len(sequence.objects) else "no true boxes of objects"

    def follow(self, source: Source, sequence: Frames) -> Tracked:
        grid = grid_of(sequence, source.stride, self._options.size)

        def features() -> Iterable[Tensor]:
            return each_frame(source, sequence, self._options.size)

        size = 4 * len(sequence) * source.dim * grid.size[0] * grid.size[1]
        kept = list(features()) if size <= KEPT else None
        runs = []
        for overlap in (True, False):
            shown = features() if kept is None else kept
            runs.append(self._associate(shown, sequence, grid, overlap))
        return Tracked(objects=runs[0].objects, masks=runs[0].masks, by_looks=runs[1])

    def plain(self, sequence: Frames) -> dict[str, Tracked]:
        """The first boxes, copied; and place alone, for which features of nothing leave all to overlap."""
        grid = Grid((1.0, 1.0), sequence.size)
        nothing = (torch.zeros(1, 1, 1).expand(1, *sequence.size) for _ in range(len(sequence)))
        return {COPY: self._copied(sequence), PLACE: self._associate(nothing, sequence, grid, True)}

    def score(self, tracked: Tracked, sequence: Frames) -> list[Scores]:
        scores = self._scores(tracked, sequence)
        if tracked.by_looks is not None:
            scores[LOOKS] = self._scores(tracked.by_looks, sequence)["IDF1"]
        return [{name: scores[name] for name in self.metrics if name in scores}]

    def truth(self, sequence: Frames) -> Tracked:
        return Tracked(objects=sequence.objects)

    def _detections(self, sequence: Frames, frame: int) -> Detections:
        if self._options.detections == "truth":
            assert sequence.objects is not None
            boxes = sequence.objects[sequence.objects[:, 0] == frame, 2:]
            return Detections(boxes=boxes[_order(len(boxes), frame)])
        assert sequence.detections is not None
        rows = sequence.detections[sequence.detections[:, 0] == frame]
        rows = rows[_order(len(rows), frame)]
        return Detections(boxes=rows[:, 1:5], scores=rows[:, 5])

    def _associate(self, features: Iterable[Tensor], sequence: Frames, grid: Grid, overlap: bool) -> Tracked:
        found = track_objects(
            features,
            (self._detections(sequence, frame) for frame in range(len(sequence))),
            stride=sum(grid.cell) / 2,
            task=self.task,
            overlap=overlap,
            frame_rate=sequence.frame_rate or FRAME_RATE,
        )
        return self._tracked(found.rows, found.detections, sequence)

    def _tracked(self, rows: Rows, detections: Any, sequence: Frames) -> Tracked:
        return Tracked(objects=rows)

    def _copied(self, sequence: Frames) -> Tracked:
        boxes = self._detections(sequence, 0).boxes
        rows = [[frame, 1 + k, *box] for frame in range(len(sequence)) for k, box in enumerate(boxes)]
        return Tracked(objects=np.array(rows, dtype=np.float64).reshape(-1, 6))

    def _scores(self, tracked: Tracked, sequence: Frames) -> Scores:
        objects = tracked.objects
        if sequence.others is not None:
            objects = without_distractors(sequence.objects, sequence.others, objects)
        compared = compare_boxes(sequence.objects, objects)
        clear = clear_mot(sequence.objects, objects)
        return {**identity_scores(compared), **hota_scores(compared), **clear}


class ManyMasks(ManyBoxes):
    """Masks of many objects, given in every frame without their names, by the truth or by a detector."""

    metrics = ("IDF1", "HOTA", "IDSW", LOOKS, "sMOTSA", "MOTSA", "DetA", "AssA", "MOTSP", "FP", "FN")
    task = "mots"

    def lacks(self, sequence: Frames) -> str | None:
        if self._given(sequence) is None and self._options.detections != "truth":
            return "no detected masks"
        return _lacks(self._given(sequence))

    def unscored(self, sequence: Frames) -> str | None:
        return _lacks(sequence.masks)

    def truth(self, sequence: Frames) -> Tracked:
        return Tracked(masks=lambda frame: _map_of(sequence.masks, frame))

    def _given(self, sequence: Frames) -> Maps | None:
        return sequence.masks if self._options.detections == "truth" else sequence.detected

    def _detections(self, sequence: Frames, frame: int) -> Detections:
        mask = _map_of(self._given(sequence), frame)
        ids = _ids(mask)
        return Detections(masks=mask == ids[_order(len(ids), frame)][:, None, None])

    def _tracked(self, rows: Rows, detections: Any, sequence: Frames) -> Tracked:
        """Masks as they are, under the names they were given."""
        named = {
            (int(frame), int(which)): int(name)
            for (frame, name), which in zip(rows[:, :2], detections, strict=True)
        }

        def labels(frame: int) -> Labels:
            mask = _map_of(self._given(sequence), frame)
            ids = _ids(mask)
            which = np.argsort(_order(len(ids), frame))  # of the shuffled detections each one was
            names = np.array([0, *(named.get((frame, int(k)), 0) for k in which)])
            return np.asarray(names[np.where(mask > 0, 1 + np.searchsorted(ids, mask), 0)])

        return Tracked(masks=labels)

    def _copied(self, sequence: Frames) -> Tracked:
        first = _map_of(self._given(sequence), 0)
        return Tracked(masks=lambda frame: first)

    def _scores(self, tracked: Tracked, sequence: Frames) -> Scores:
        assert tracked.masks is not None
        true, found = (
            cast("Sequence[Any]", Lazy(len(sequence), labels))
            for labels in (lambda frame: _map_of(sequence.masks, frame), tracked.masks)
        )
        compared = compare_masks(true, found)
        return {**identity_scores(compared), **hota_scores(compared), **clear_mots(true, found)}


def _order(count: int, frame: int) -> NDArray[np.int64]:
    """Detections in the order of their true names would tell them wherever features leave a choice: they are shuffled."""
    return np.random.default_rng(frame).permutation(count)


def _map_of(maps: Maps | None, frame: int) -> Labels:
    assert maps is not None
    mask = maps[frame]
    assert mask is not None
    return mask


def _lacks(maps: Maps | None) -> str | None:
    """Why label maps do not show objects in every frame; None if they do."""
    if maps is None:
        return "no masks"
    marked = False
    for frame in range(len(maps)):
        mask = maps[frame]
        if mask is None:
            return "masks on some frames only"
        marked = marked or bool(mask.any())
    return None if marked else "masks without an object"


def _ids(mask: Labels) -> Labels:
    return np.setdiff1d(mask, [0])
