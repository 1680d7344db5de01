"""Accuracies with their uncertainty."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

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


def classification_scores(scores: Tensor, labels: Tensor, ok: Tensor) -> Score:
    """Top-1 (with interval), top-5 and mean-class accuracy.

    Args:
        scores: (N, K), higher is better; a tie between the truth and another class counts as wrong, so that constant
            scores are not rewarded.
        labels: (N,) int64; -1 for a class that cannot be predicted (always wrong).
        ok: (N,) bool; False for a video that could not be decoded (always wrong, never left out).
    """
    total, classes = scores.shape
    known = ok & (labels >= 0)
    truth = scores.gather(1, labels.clamp(min=0)[:, None])
    # Others that are at least as good; nan compares False and is handled by `ok`.
    rivals = (scores >= truth).sum(1) - 1
    top1 = known & (rivals < 1)
    result: Score = {
        "top1": top1.double().mean().item(),
        "top1_interval": wilson_interval(int(top1.sum()), total),
        "correct": int(top1.sum()),
        "total": total,
        "failed": int((~ok).sum()),
    }
    if classes > 5:
        result["top5"] = (known & (rivals < 5)).double().mean().item()
    per_class = [top1[labels == label].double().mean().item() for label in labels.unique().tolist()]
    result["mean_class"] = float(np.mean(per_class))
    return result


def majority_scores(labels: Tensor, reference: Tensor | None = None) -> Score:
    """Accuracy of always answering the most frequent class of `reference` (default: of the labels themselves)."""
    counts = torch.bincount((labels if reference is None else reference).clamp(min=0))
    correct = int((labels == counts.argmax()).sum())
    return {"top1": correct / len(labels), "top1_interval": wilson_interval(correct, len(labels))}


def format_score(score: Score) -> str:
    """``43.2 % [38.0, 48.6]``; a score without uncertainty, such as chance, has no interval."""
    if "top1_interval" not in score:
        return f"{100 * score['top1']:.1f} %"
    low, high = score["top1_interval"]
    return f"{100 * score['top1']:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
