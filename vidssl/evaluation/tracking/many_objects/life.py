"""The life of tracks: born from a detection, found again by looks or by place, lost, and in the end forgotten.

The stages and constants are UniTrack's (Wang et al. 2021, arXiv 2107.02156), which has them from JDE (Wang et al. 2020, arXiv
1909.12605).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from vidssl.evaluation.tracking.many_objects.assignment import Indices, assign
from vidssl.evaluation.tracking.many_objects.motion import BoxFilter, fuse_motion
from vidssl.evaluation.tracking.many_objects.similarity import FLOOR, reconstruction_cost
from vidssl.evaluation.tracking.overlap import Array, pairwise_iou

# Costs below which two are the same: by looks, and by place (1 - IoU) in the frame after.
BY_LOOKS, BY_PLACE = 0.7, 0.5
BORN = 0.5  # score from which on a detection that is nobody's begins a track
KEPT = 1.0  # seconds for which a lost one can come back


@dataclass(frozen=True)
class Rules:
    """What differs from task to task.

    Args:
        confirm: 1 - IoU below which a track born in the frame before is confirmed, where that is asked.
        duplicate: 1 - IoU below which a lost track and one that is seen are the same.
        at_once: tracks are confirmed as they are born.
        area: cells of a mask, at most; 0 for boxes.
        weight, gate: the published ones, of those who use motion.
    """

    confirm: float
    duplicate: float
    at_once: bool
    area: int
    weight: float
    gate: bool


RULES = {
    "mot": Rules(confirm=0.7, duplicate=0.15, at_once=False, area=0, weight=0.98, gate=True),
    "mots": Rules(confirm=0.7, duplicate=0.15, at_once=True, area=200, weight=0.98, gate=False),
    "pose": Rules(confirm=0.6, duplicate=0.2, at_once=True, area=400, weight=0.9999, gate=False),
}


@dataclass
class Track:
    """One object; `looks` (D, P) are its features when it was last seen, `detection` where that was among the frame's."""

    identity: int
    mean: Array
    cov: Array
    looks: Tensor
    born: int
    last: int
    detection: int
    confirmed: bool

    @property
    def box(self) -> Array:
        """x, y, w, h of the state: where it is, or is expected to be."""
        x, y, aspect, h = self.mean[:4]
        return np.array([x - aspect * h / 2, y - h / 2, aspect * h, h])


class Tracks:
    """All tracks of a video.

    Args:
        rules: of the task.
        weight, gate: as of `fuse_motion`.
        overlap: False leaves all to looks: nothing is found, confirmed or taken for a duplicate by its place.
        patience: frames for which a lost one can come back.
        temperature: of `reconstruction_cost`.
    """

    def __init__(
        self, rules: Rules, weight: float, gate: bool, overlap: bool, patience: int, temperature: float
    ) -> None:
        self._rules, self._weight, self._gate, self._overlap = rules, weight, gate, overlap
        self._patience, self._temperature = patience, temperature
        self._filter = BoxFilter()
        self._alive: list[Track] = []
        self._born = 0

    def step(self, time: int, looks: Sequence[Tensor], boxes: Array, scores: Array) -> list[Track]:
        """One frame on.

        Args:
            time: of the frame.
            looks: n features (D, P_i) of its detections.
            boxes: (n, 4) x, y, w, h with w, h > 0.
            scores: (n,).

        Returns:
            The confirmed tracks that are seen in it.
        """
        measured = np.column_stack((boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2] / boxes[:, 3], boxes[:, 3]))
        for track in self._alive:
            if track.last < time - 1:
                track.mean[7] = 0  # one that is lost does not grow
            track.mean, track.cov = self._filter.predict(track.mean, track.cov)

        def match(
            tracks: list[Track], cost: Array, open_: Indices, limit: float
        ) -> tuple[list[Track], Indices]:
            pairs, rows, columns = assign(cost, limit)
            for row, column in pairs:
                track, index = tracks[row], int(open_[column])
                track.mean, track.cov = self._filter.update(track.mean, track.cov, measured[index])
                track.looks, track.last, track.detection, track.confirmed = looks[index], time, index, True
            return [tracks[row] for row in rows], open_[columns]

        def by_place(tracks: list[Track], open_: Indices) -> Array:
            return 1 - pairwise_iou(np.array([x.box for x in tracks]), boxes[open_])

        confirmed = [track for track in self._alive if track.confirmed]
        young = [track for track in self._alive if not track.confirmed]
        open_ = np.arange(len(boxes))
        left, open_ = match(confirmed, self._by_looks(confirmed, looks, measured), open_, BY_LOOKS)
        if self._overlap:
            recent = [track for track in left if track.last == time - 1]
            _, open_ = match(recent, by_place(recent, open_), open_, BY_PLACE)
            _, open_ = match(young, by_place(young, open_), open_, self._rules.confirm)
        self._alive = [x for x in self._alive if x.confirmed and time - x.last <= self._patience]
        at_once = self._rules.at_once or not self._overlap or time == 0
        for index in open_[scores[open_] >= BORN]:
            self._born += 1
            mean, cov = self._filter.initiate(measured[index])
            self._alive.append(Track(self._born, mean, cov, looks[index], time, time, int(index), at_once))
        if self._overlap:
            self._drop_duplicates(time)
        return [track for track in self._alive if track.confirmed and track.last == time]

    def _by_looks(self, tracks: list[Track], looks: Sequence[Tensor], measured: Array) -> Array:
        cost = reconstruction_cost([track.looks for track in tracks], looks, self._temperature, FLOOR)
        costs: Array = cost.double().cpu().numpy()
        if self._weight == 1 and not self._gate:
            return costs
        far = [self._filter.gating_distance(track.mean, track.cov, measured) for track in tracks]
        return fuse_motion(costs, np.array(far).reshape(costs.shape), self._weight, self._gate)

    def _drop_duplicates(self, time: int) -> None:
        """Of a lost track and one that is seen at the same place, only the one that was seen for longer goes on."""
        here = [track for track in self._alive if track.last == time]
        lost = [track for track in self._alive if track.last < time]
        overlap = pairwise_iou(*(np.array([track.box for track in group]) for group in (here, lost)))
        dropped = set()
        for i, j in np.argwhere(1 - overlap < self._rules.duplicate):
            shorter = lost[j] if here[i].last - here[i].born > lost[j].last - lost[j].born else here[i]
            dropped.add(shorter.identity)
        self._alive = [track for track in self._alive if track.identity not in dropped]
