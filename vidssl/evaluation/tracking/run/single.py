"""Task ``sot``: the box of the first frame, followed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.boxes import normalised_precision, precision, success_auc, track_box
from vidssl.evaluation.tracking.run.options import CROP, TrackOptions, hand_drawn
from vidssl.evaluation.tracking.run.sources import COPY, Source, require_finite
from vidssl.evaluation.tracking.run.task import Rows, Scores, Tracked
from vidssl.evaluation.tracking.sequence import Sequence


class SingleObject:
    """One box through a sequence. Frames in which the object is not seen, or its box not known, are not scored."""

    metrics = ("AUC", "precision", "normalised precision")
    counts: frozenset[str] = frozenset()

    def __init__(self, options: TrackOptions) -> None:
        self._options = options

    def lacks(self, sequence: Sequence) -> str | None:
        if self._options.box is None and sequence.boxes is None:
            return f"no boxes; {hand_drawn(sequence.size)}"
        return None

    def unscored(self, sequence: Sequence) -> str | None:
        if sequence.boxes is None:
            return "no true boxes"
        if not np.isfinite(sequence.boxes[1:]).all(1).any():
            return "a box in its first frame only"
        return None

    def follow(self, source: Source, sequence: Sequence) -> Tracked:
        def features(crops: Tensor) -> Tensor:
            return require_finite(source, source.features(crops), sequence.name)

        def frames() -> Iterator[Tensor]:
            for index in range(len(sequence)):
                yield sequence.clip(index, index + 1)[0].to(source.device)

        options = self._options
        boxes = track_box(
            features,
            frames(),
            self._first(sequence),
            options.head,
            options.size or CROP,
            options.legacy,
            source.colour,
        )
        return Tracked(boxes=boxes)

    def plain(self, sequence: Sequence) -> dict[str, Tracked]:
        return {COPY: Tracked(boxes=np.tile(self._first(sequence), (len(sequence), 1)))}

    def score(self, tracked: Tracked, sequence: Sequence) -> list[Scores]:
        assert tracked.boxes is not None
        assert sequence.boxes is not None
        seen = np.isfinite(sequence.boxes).all(1)
        found, true = tracked.boxes[seen], sequence.boxes[seen]
        scores = success_auc(found, true), precision(found, true), normalised_precision(found, true)
        return [dict(zip(self.metrics, scores, strict=True))]

    def truth(self, sequence: Sequence) -> Tracked:
        return Tracked(boxes=sequence.boxes)

    def _first(self, sequence: Sequence) -> Rows:
        if self._options.box is not None:
            first = np.array(self._options.box, dtype=np.float64)
        else:
            assert sequence.boxes is not None
            first = sequence.boxes[0]
        if not np.isfinite(first).all():
            raise VidsslError(f"{sequence.name}: no box in its first frame")
        (x, y, w, h), (height, width) = first, sequence.size
        if min(width, x + w) <= max(0, x) or min(height, y + h) <= max(0, y):
            raise VidsslError(
                f"{sequence.name}: the box {x:g},{y:g},{w:g},{h:g} lies outside of its {width} x {height} pixels"
            )
        return first
