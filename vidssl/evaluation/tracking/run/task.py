"""What every task does with a sequence: says whether it can, follows what is in it, copies the first label, and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vidssl.evaluation.tracking.run.sources import Source
from vidssl.evaluation.tracking.sequence import Sequence

Scores = dict[str, float]
Rows = NDArray[np.float64]
Labels = NDArray[np.signedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Tracked:
    """What was tracked, in the terms of the truth in `Sequence`; what is None is not of the task.

    Args:
        boxes: (T, 4). masks: frame -> label map (H, W), None where there is none.
        objects: rows (frame, id, x, y, w, h). keypoints: figure -> (T, J, 2).
        by_looks: of many objects, what is tracked without regard to where they were.
        remark: what has to be said of the sequence.
    """

    boxes: Rows | None = None
    masks: Callable[[int], Labels | None] | None = None
    objects: Rows | None = None
    keypoints: Mapping[int, Rows] | None = None
    by_looks: Tracked | None = None
    remark: str | None = None


class Task(Protocol):
    """One of the five tasks.

    Attributes:
        metrics: names of its scores as `score` gives them; the first one decides. A metric in `counts` is no fraction.
    """

    @property
    def metrics(self) -> tuple[str, ...]: ...

    @property
    def counts(self) -> frozenset[str]: ...

    def lacks(self, sequence: Sequence) -> str | None:
        """Why a sequence cannot be tracked in, such as "no boxes"; None if it can."""

    def unscored(self, sequence: Sequence) -> str | None:
        """Why one that can be tracked in has nothing to score with; None if it has."""

    def follow(self, source: Source, sequence: Sequence) -> Tracked:
        """What a source's features track.

        Raises:
            NotFiniteError: features that are not finite. VidsslError: a sequence that cannot be used after all.
        """

    def plain(self, sequence: Sequence) -> dict[str, Tracked]:
        """Baselines without features by name, the first label copied into all frames among them."""

    def score(self, tracked: Tracked, sequence: Sequence) -> list[Scores]:
        """Scores of one object, figure or sequence each; a baseline may lack some."""

    def truth(self, sequence: Sequence) -> Tracked:
        """The truth of the task, to be drawn beside what was tracked."""
