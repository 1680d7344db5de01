"""Which class was answered for each video, and what that says of each class.

No answer is -1: the video could not be used, or its scores are not finite. A tie between the true class and another is an
answer of the other, so that the diagonal counts what `correct_rows` counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vidssl.evaluation.metrics import correct_rows, wilson_interval

NO_ANSWER = "(no answer)"


def answers_of(scores: Tensor, labels: Tensor, ok: Tensor) -> Tensor:
    """(N,) int64, the class with the highest score, -1 for none; arguments as in `correct_rows`."""
    right = correct_rows(scores, labels, ok)
    known = (labels >= 0) & (labels < scores.shape[1])
    rivals = scores.clone()
    rows = (known & ~right).nonzero()[:, 0]
    rivals[rows, labels[rows]] = -math.inf  # a tie counts against the truth
    found = rivals.argmax(dim=1)
    found[right] = labels[right]
    found[~(ok & scores.isfinite().all(dim=1))] = -1
    return found


def confusion_matrix(truth: Sequence[int], answered: Sequence[int], classes: int) -> NDArray[np.int64]:
    """(R, K + 1) counts: true classes by answers, the last column for none.

    Args:
        truth: (N,) in [0, R); K and above for classes that cannot be answered.
        answered: (N,) in [-1, K).
        classes: K; R is the larger of K and the number of true classes.
    """
    rows = max([classes, *(label + 1 for label in truth)])
    counts = np.zeros((rows, classes + 1), dtype=np.int64)
    np.add.at(counts, (np.asarray(truth, dtype=np.int64), np.asarray(answered, dtype=np.int64)), 1)
    return counts


class ClassRow(NamedTuple):
    """How one class fared.

    Attributes:
        name: of the class. videos: that show it. right: answered so.
        accuracy: share of its videos; nan without any. low, high: Wilson's interval of 95 %, over videos.
        answered: of how many videos, of any class, it was the answer.
        precision: share of these that show it; nan without any.
        taken_for: the most frequent wrong answer, empty without any; times: how often.
        no_answer: videos without one.
    """

    name: str
    videos: int
    right: int
    accuracy: float
    low: float
    high: float
    answered: int
    precision: float
    taken_for: str
    times: int
    no_answer: int


def class_rows(counts: NDArray[np.int64], names: Sequence[str]) -> list[ClassRow]:
    """A row for each true class of `confusion_matrix`.

    Args:
        names: (R,) of the true classes, the K that can be answered first.
    """
    classes, found = counts.shape[1] - 1, []
    for place, name in enumerate(names):
        own = counts[place]
        videos, right = int(own.sum()), int(own[place]) if place < classes else 0
        wrong = own[:classes].copy()
        if place < classes:
            wrong[place] = 0
        worst, times = int(wrong.argmax()), int(wrong.max())
        answered = int(counts[:, place].sum()) if place < classes else 0
        low, high = wilson_interval(right, videos) if videos else (math.nan, math.nan)
        found.append(
            ClassRow(
                name, videos, right, right / videos if videos else math.nan, low, high, answered,
                right / answered if answered else math.nan, names[worst] if times else "", times, int(own[classes]),
            )
        )  # fmt: skip
    return found


def names_of(classes: Mapping[str, Any]) -> list[str]:
    """The true classes of a result's `classes`: those that can be answered, then the unknown ones."""
    return [*classes["names"], *classes.get("unknown", {})]
