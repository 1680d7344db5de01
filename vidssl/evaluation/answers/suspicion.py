"""Patterns of answers that are mistakes of a list more often than weaknesses of an encoder: chance, and shifted labels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

LEVEL = 1e-4  # chance of a warning by accident, over all offsets together

SPREAD = 0.4  # of the classes, over which the answers that fit a shift have to be spread


class Blame(NamedTuple):
    """Which answers chance is that of; what may be wrong where accuracy is no better, and where labels look shifted."""

    drawn: str
    chance: str
    shift: str


ZERO_SHOT = Blame(
    "a class drawn at random",
    "few videos, another class list than the labels', weights that were not loaded, or an encoder that does not know these classes",
    "are names and numbers of the class list in step?",
)
PROBE = Blame(
    "the same answers in random order",
    "few videos, labels that do not belong to their videos, weights that were not loaded, or features that do not tell these classes",
    "are the labels of training and test numbered alike?",
)


class Shift(NamedTuple):
    """Answers fit the class `offset` places further down the list; `right`: how many do, `own`: how many the true class."""

    offset: int
    right: int
    own: int


def label_shift(truth: Sequence[int], answered: Sequence[int], classes: int) -> Shift | None:
    """Whether the answers fit labels that are shifted along the list of classes, round its end.

    For each offset the videos whose answer lies that many places behind their class are counted, and compared with what
    a random pairing of the same answers and the same labels would give (mean and variance of the permutation
    distribution, Hoeffding 1951). So an encoder that answers the same for all videos is not suspected.

    Args:
        truth: (N,) labels. answered: (N,), -1 for none. Videos of classes that cannot be answered, and those without an
            answer, do not count.
        classes: K.

    Returns:
        The offset that fits best, where it is not 0, is beyond chance, fits more than twice as far beyond it as the labels as
        they are, and is spread over the classes (a few that are taken for others are no shift); else None.
    """
    pairs = np.array(
        [(a, b) for a, b in zip(truth, answered, strict=True) if 0 <= a < classes and b >= 0], dtype=np.int64
    ).reshape(-1, 2)
    if classes < 2 or len(pairs) < 2:
        return None
    matches = np.bincount((pairs[:, 1] - pairs[:, 0]) % classes, minlength=classes)
    label_counts, answer_counts = (np.bincount(pairs[:, column], minlength=classes) for column in (0, 1))
    beyond = _deviations(matches, label_counts, answer_counts)
    best = int(beyond.argmax())
    beyond_chance = (
        beyond[best] > -NormalDist().inv_cdf(LEVEL / (classes - 1)) and beyond[best] > 2 * beyond[0]
    )
    fitting = np.bincount(pairs[(pairs[:, 1] - pairs[:, 0]) % classes == best, 0], minlength=classes)
    if best == 0 or not beyond_chance or _diversity(fitting) < SPREAD * _diversity(label_counts):
        return None
    return Shift(best, int(matches[best]), int(matches[0]))


def _diversity(counts: NDArray[np.int64]) -> float:
    """How many classes counts are spread over: one over the chance that two of them are of one class (Simpson 1949)."""
    total, same = int(counts.sum()), int((counts * (counts - 1)).sum())
    return total * (total - 1) / same if same else math.inf


def _deviations(
    matches: NDArray[np.int64], labels: NDArray[np.int64], answers: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(K,) standard deviations of the permutation distribution by which each offset's matches exceed its mean.

    Args:
        matches, labels, answers: (K,) matches by offset, videos by class, and by answer.
    """
    total, found = int(labels.sum()), np.zeros(len(matches))
    for offset in range(len(matches)):
        shown = np.roll(answers, -offset).astype(np.float64)  # answers that match class k at this offset
        both = float(labels @ shown)
        mean = both / total
        squares = both - (labels @ shown**2) / total - (labels**2 @ shown) / total + (both / total) ** 2
        variance = squares / (total - 1)
        found[offset] = (matches[offset] - mean) / math.sqrt(variance) if variance > 1e-9 else 0.0
    return found


def chance_agreement(truth: Sequence[int], answered: Sequence[int]) -> float:
    """Accuracy of the same answers given to the videos in random order, as in Cohen's kappa (1960): that of the majority class where
    all answers are that one, 1 / K where all are as frequent.

    Args:
        truth: (N,) labels, N at least 1. answered: (N,), -1 for none.
    """
    counts = (np.unique(np.asarray(part, dtype=np.int64), return_counts=True) for part in (truth, answered))
    labels, answers = (
        dict(zip(values.tolist(), numbers.tolist(), strict=True)) for values, numbers in counts
    )
    pairs = sum(count * answers.get(label, 0) for label, count in labels.items() if label >= 0)
    return float(pairs) / len(truth) ** 2


def probe_suspicions(
    name: str, score: Mapping[str, Any], truth: Sequence[int], answered: Sequence[int], classes: int
) -> list[str]:
    """Lines about a row of a probe's table, see `suspicions`; chance is that of its own answers, `chance_agreement`."""
    shift = label_shift(truth, answered, classes)
    return suspicions(name, score, chance_agreement(truth, answered), shift, classes, PROBE)


def suspicions(
    name: str,
    score: Mapping[str, Any],
    chance: float,
    shift: Shift | None,
    classes: int,
    blame: Blame = ZERO_SHOT,
) -> list[str]:
    """Lines for a result about a row of its table: accuracy that is not beyond chance, and shifted labels.

    Args:
        name: of the row. score: its `top1` and `top1_interval`. chance: accuracy of random answers.
        shift: of `label_shift`. classes: how many there are to choose from.
        blame: what may be wrong.
    """
    found = []
    low, high = score["top1_interval"]
    if classes > 1 and low <= chance <= high:
        found.append(
            f"{name}: {100 * score['top1']:.1f} % cannot be told from chance ({blame.drawn}: {100 * chance:.1f} %): {blame.chance}"
        )
    if shift is not None:
        back = classes - shift.offset
        other_way = f" (or {back} the other way round)" if back < shift.offset else ""
        found.append(
            f"{name}: the labels look shifted by {shift.offset}{other_way} in the list of {classes} classes: {shift.right} answers "
            f"fit the class {shift.offset} further down, {shift.own} the video's own; {blame.shift}"
        )
    return found
