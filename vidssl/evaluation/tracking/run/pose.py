"""Task ``pose``: the key points of the first frame, carried along the video as heat maps."""

from __future__ import annotations

import math

import numpy as np
import torch

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.keypoints import heatmaps, missing_fraction, pck, read_points
from vidssl.evaluation.tracking.propagation import propagate
from vidssl.evaluation.tracking.run.features import grid_of, sequence_features
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.sources import COPY, Source
from vidssl.evaluation.tracking.run.task import Rows, Scores, Tracked
from vidssl.evaluation.tracking.sequence import Sequence

# How many cells of a heat map a point is read from, where a protocol has other than five.
CELLS = {"crw": 3, "unitrack": 3}


class Pose:
    """Key points of figures. A point that is hidden is not scored; one that is seen and not found is counted as `missing`, and
    scored neither, as in JHMDB."""

    metrics = ("PCK@0.1", "PCK@0.2", "missing")
    counts: frozenset[str] = frozenset()

    def __init__(self, options: TrackOptions) -> None:
        self._options = options

    def lacks(self, sequence: Sequence) -> str | None:
        return None if sequence.keypoints else "no key points"

    def unscored(self, sequence: Sequence) -> str | None:
        points = (sequence.keypoints or {}).values()
        later = any((figure[1:] >= 0).all(-1).any() for figure in points)
        return None if later else "key points of its first frame only"

    def follow(self, source: Source, sequence: Sequence) -> Tracked:
        firsts = self._first(sequence)
        grid = grid_of(sequence, source.stride, self._options.size)
        cell = np.array(grid.cell[::-1])
        stacked = np.concatenate(list(firsts.values()))
        # A whole number of cells is the middle of one; a point left of the first one's middle is no missing point.
        cells = np.where(stacked < 0, -1, np.maximum(stacked / cell - 0.5, 0))
        labels = heatmaps(torch.from_numpy(cells).float(), grid.size)
        features = sequence_features(source, sequence, self._options.size)
        preset = self._options.preset
        soft = propagate(features, labels.to(features.device), preset)
        read = [read_points(frame, top=CELLS.get(preset, 5)).cpu().numpy() for frame in soft]
        found = np.stack(read).astype(np.float64)
        points = np.where(found < 0, -1, (found + 0.5) * cell)
        points[0] = stacked
        ends = np.cumsum([len(first) for first in firsts.values()])
        return Tracked(keypoints=dict(zip(firsts, np.split(points, ends[:-1], axis=1), strict=True)))

    def plain(self, sequence: Sequence) -> dict[str, Tracked]:
        copied = {
            figure: np.tile(first, (len(sequence), 1, 1)) for figure, first in self._first(sequence).items()
        }
        return {COPY: Tracked(keypoints=copied)}

    def score(self, tracked: Tracked, sequence: Sequence) -> list[Scores]:
        assert tracked.keypoints is not None
        assert sequence.keypoints is not None
        scores = []
        for figure, found in tracked.keypoints.items():
            true = sequence.keypoints[figure]
            wanted = np.where(
                (true[0] >= 0).all(-1)[:, None], true, -1
            )  # a point that could not start is not wanted
            missing = missing_fraction([found], [wanted])
            if math.isnan(missing):
                continue
            near, far = (0.0, 0.0) if missing == 1 else pck([found], [wanted], at=(0.1, 0.2)) / 100
            scores.append(dict(zip(self.metrics, (float(near), float(far), missing), strict=True)))
        return scores

    def truth(self, sequence: Sequence) -> Tracked:
        return Tracked(keypoints=sequence.keypoints)

    def _first(self, sequence: Sequence) -> dict[int, Rows]:
        """Figures with a point that is seen in the first frame."""
        assert sequence.keypoints is not None
        first = {figure: points[0] for figure, points in sequence.keypoints.items()}
        seen = {figure: points for figure, points in first.items() if (points >= 0).all(-1).any()}
        if not seen:
            raise VidsslError(f"{sequence.name}: no key point is seen in its first frame")
        return seen
