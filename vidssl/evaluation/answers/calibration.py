"""Whether probabilities mean what they say: of videos answered with 70 % confidence, 70 % should be right."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BINS = 15


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over bins of equal width, weighted by videos (Guo et al. 2017, arXiv
    1706.04599, eq. 3).

    Args:
        confidence: (N,) in [0, 1], of the answers given. right: (N,) bool.
        bins: of ((b - 1) / bins, b / bins]; the first holds 0 too.

    Returns:
        In [0, 1]; nan for no videos.

    Raises:
        ValueError: for a confidence outside of [0, 1], one that is not finite, or another number of them.
    """
    if len(confidence) != len(right) or not bool(((confidence >= 0) & (confidence <= 1)).all()):
        raise ValueError(
            f"expected_calibration_error: {len(confidence)} confidences in [0, 1] of {len(right)} videos"
        )
    if len(right) == 0:
        return math.nan
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64)[1:-1]
    place = torch.bucketize(confidence.double(), edges)
    gap = torch.zeros(bins, dtype=torch.float64)
    gap.index_add_(0, place, right.double() - confidence.double())
    return float(gap.abs().sum() / len(right))


def calibration_scores(scores: Tensor, right: Tensor, ok: Tensor, temperature: float) -> dict[str, float]:
    """`confidence`, the mean over the videos that got an answer, and `calibration_error`; nothing where none did.

    Args:
        scores: (N, K) cosines, whose softmax at `temperature` is the probability.
        right: (N,) bool. ok: (N,) bool, videos that could be used.
    """
    answered = ok & scores.isfinite().all(dim=1)
    if not bool(answered.any()):
        return {}
    confidence = (scores[answered].double() / temperature).softmax(dim=1).amax(dim=1)
    if not bool(confidence.isfinite().all()):
        return {}
    return {
        "confidence": float(confidence.mean()),
        "calibration_error": expected_calibration_error(confidence.clamp(max=1.0), right[answered]),
    }
