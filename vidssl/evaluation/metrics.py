"""Accuracies with their uncertainty.

What is not finite is never right: a row of scores that holds a nan or an infinity is wrong, and counted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.errors import VidsslError, counted

Score = dict[str, Any]


def wilson_interval(correct: int, total: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Score interval of a proportion (Wilson 1927), 95 % by default; stays inside [0, 1] and is honest for small sets.

    Raises:
        ValueError: if total < 1 or correct is not in [0, total].
    """
    if total < 1 or not 0 <= correct <= total:
        raise ValueError(f"wilson_interval: {correct} of {total}")
    p = correct / total
    centre = (p + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return max(0.0, centre - half), min(1.0, centre + half)


def group_interval(correct: Tensor, groups: Tensor, seed: int = 0) -> tuple[float, float]:
    """95 % of the accuracies over 10,000 resamples of whole groups (percentile bootstrap): for videos that were recorded
    together, which are not independent.

    Args:
        correct: (N,) bool or numbers, whose mean it is of. groups: (N,) integers, equal within a group.
        seed: of the resampling.
    """
    _, number = groups.unique(return_inverse=True)
    sums = torch.zeros(int(number.max()) + 1, 2, dtype=torch.float64)
    sums.index_add_(0, number, torch.stack([correct.double(), torch.ones(len(correct)).double()], dim=1))
    generator, total = np.random.default_rng(seed), len(sums)
    draws = [
        generator.multinomial(total, np.full(total, 1 / total), size=100) @ sums.numpy() for _ in range(100)
    ]
    both = np.concatenate(draws)
    low, high = np.quantile(both[:, 0] / both[:, 1], [0.025, 0.975])
    return float(low), float(high)


def group_numbers(groups: Sequence[str | None]) -> Tensor | None:
    """A number for each name, and one of its own for each video without; None where nothing is known of groups."""
    numbers: dict[str | int, int] = {}
    keys = [row if name is None else name for row, name in enumerate(groups)]
    return torch.tensor([numbers.setdefault(key, len(numbers)) for key in keys]) if groups else None


def correct_rows(scores: Tensor, labels: Tensor, ok: Tensor, best: int = 1) -> Tensor:
    """(N,) bool: rows whose true class is one of the `best` with the highest scores.

    Args:
        scores: (N, K), higher is better; a tie between the truth and another class counts against it, so that constant
            scores are not rewarded. A row with a score that is not finite is wrong.
        labels: (N,) int64 in [0, K); any other number is a class that cannot be predicted: always wrong.
        ok: (N,) bool; False for a video that could not be used: always wrong, never left out.
    """
    classes = scores.shape[1]
    possible = ok & scores.isfinite().all(dim=1) & (labels >= 0) & (labels < classes)
    truth = scores.gather(1, labels.clamp(0, classes - 1)[:, None])
    rivals = (scores >= truth).sum(dim=1) - 1  # others that are at least as good
    return possible & (rivals < best)


def classification_scores(scores: Tensor, labels: Tensor, ok: Tensor, groups: Tensor | None = None) -> Score:
    """Top-1 (with interval), top-5 and mean-class accuracy.

    Args:
        scores, labels, ok: as in `correct_rows`. Every number among the labels is a class of the mean over classes, those
            that cannot be predicted too.
        groups: (N,) integers, equal for videos that were recorded together: the interval is over these; None: Wilson's.

    Returns:
        `top1`, `top1_interval`, `correct`, `total`, `failed` (not ok), `not_finite` (ok, but with a score that is not),
        `mean_class`, and `top5` for more than five classes.
    """
    total, classes = scores.shape
    top1 = correct_rows(scores, labels, ok)
    result: Score = {
        "top1": top1.double().mean().item(),
        "top1_interval": wilson_interval(int(top1.sum()), total)
        if groups is None
        else group_interval(top1, groups),
        **({} if groups is None else {"interval_over": counted(len(groups.unique()), "group")}),
        "correct": int(top1.sum()),
        "total": total,
        "failed": int((~ok).sum()),
        "not_finite": int((ok & ~scores.isfinite().all(dim=1)).sum()),
    }
    if classes > 5:
        result["top5"] = correct_rows(scores, labels, ok, best=5).double().mean().item()
    per_class = [top1[labels == label].double().mean().item() for label in labels.unique().tolist()]
    result["mean_class"] = float(np.mean(per_class))
    return result


def majority_scores(labels: Tensor, reference: Tensor | None = None) -> Score:
    """Accuracy of always answering the most frequent class of `reference` (default: of the labels themselves)."""
    counts = torch.bincount(labels if reference is None else reference)
    correct = int((labels == counts.argmax()).sum())
    return {"top1": correct / len(labels), "top1_interval": wilson_interval(correct, len(labels))}


def chance_scores(labels: Tensor, num_classes: int) -> Score:
    """Accuracy of answering any of the classes [0, num_classes) at random; other labels are never right."""
    return {"top1": (labels < num_classes).double().mean().item() / num_classes}


def require_finite(name: str, rows: Tensor) -> None:
    """Rows to learn from must be finite: one that is not would decide everything.

    Raises:
        VidsslError: naming the first row that is not.
    """
    broken = (~rows.isfinite().all(dim=1)).nonzero()[:, 0].tolist()
    if broken:
        raise VidsslError(
            f"{name}: {len(broken)} of {len(rows)} training rows are not finite, first row {broken[0]}"
        )


def format_score(score: Score) -> str:
    """``43.2 % [38.0, 48.6]``; a mean over draws ``43.2 ± 1.5 %``; without uncertainty, such as chance, no interval."""
    if score.get("top1_std") is not None:
        return f"{100 * score['top1']:.1f} ± {100 * score['top1_std']:.1f} %"
    if "top1_interval" not in score:
        return f"{100 * score['top1']:.1f} %"
    low, high = score["top1_interval"]
    return f"{100 * score['top1']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
