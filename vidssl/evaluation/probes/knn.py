"""Weighted k-nearest-neighbour classification (Wu et al. 2018, arXiv 1805.01978, §3.4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.errors import check_value
from vidssl.evaluation.metrics import require_finite
from vidssl.evaluation.official import over_splits
from vidssl.evaluation.probes.splits import Splits, read_splits
from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject


def knn(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    k: Sequence[int] = (1, 5, 20),
    temperature: float = 0.07,
    before: str | Path | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Weighted k-nearest-neighbour classification of frozen clip features, one score for each k.

    Over three official splits where the data name them, see `over_splits`.

    A k beyond the number of training videos becomes that number, and says so. The top 5 are given from k = 5 on: fewer
    neighbours name fewer classes.

    Args:
        before: see `load_subject`.

    Raises:
        VidsslError: for a k below 1 or a temperature not above 0, before anything is loaded.
    """
    for neighbours in k:
        check_value("k", neighbours, neighbours >= 1, "at least 1")
    check_value("temperature", temperature, 0 < temperature < math.inf, "above 0")
    subject = load_subject(checkpoint, options, before)
    return over_splits(
        lambda *data: _measured(subject, read_splits(subject, *data), k, temperature), train, val
    )


def _measured(subject: Subject, splits: Splits, k: Sequence[int], temperature: float) -> Result:
    classes, total = len(splits.names), len(splits.train_labels)
    counts = list(dict.fromkeys(min(neighbours, total) for neighbours in k))
    votes = {
        f"{frozen.title}, k = {count}": (
            frozen,
            knn_scores(frozen.train, frozen.labels, frozen.test, count, classes, temperature),
        )
        for frozen in splits.frozen()
        for count in counts
    }
    scored = splits.scored(votes)
    for title, score in scored["scores"].items():
        if any(title.endswith(f", k = {count}") for count in counts if count < 5):
            score.pop("top5", None)
    result = {
        **result_header("knn", subject),
        "k": counts,
        "temperature": temperature,
        **splits.record,
        **scored,
    }
    result["notes"] += [
        f"k = {neighbours}: there are {total} training videos, all of which vote (k = {total})"
        for neighbours in k
        if neighbours > total
    ] + splits.suspicions(votes)
    return result


def knn_scores(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    k: int,
    num_classes: int,
    temperature: float = 0.07,
    chunk: int = 1024,
) -> Tensor:
    """Votes of the k most similar training rows (cosine), each weighing exp(similarity / temperature).

    Args:
        train_features: (N, D); train_labels: (N,) in [0, num_classes); test_features: (M, D).
        k: neighbours; at most N are used.
        chunk: test rows compared at a time.

    Returns:
        (M, num_classes) votes, scaled so that the nearest neighbour's vote is 1; nan for a test row that is not finite.

    Raises:
        ValueError: if k < 1 or there are no training rows.
        VidsslError: if training rows are not finite.
    """
    if k < 1 or len(train_features) == 0:
        raise ValueError(f"knn: k = {k} with {len(train_features)} training rows; both must be at least 1")
    require_finite("knn", train_features)
    k = min(k, len(train_features))
    bank = F.normalize(train_features.float(), dim=1)
    rows = []
    for queries in F.normalize(test_features.float(), dim=1).split(chunk):
        similarity, neighbours = (queries @ bank.T).topk(k, dim=1)
        # Relative to the nearest neighbour: exp(1 / 0.07) would be large, and votes are scale-free.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(queries), num_classes)
        votes.scatter_add_(1, train_labels[neighbours], weights)
        rows.append(votes.masked_fill_(~queries.isfinite().all(dim=1, keepdim=True), math.nan))
    return torch.cat(rows) if rows else bank.new_zeros(0, num_classes)


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy in [0, 1] of `knn_scores`; a test class without training rows, and a test row that is not finite, is
    wrong."""
    num_classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    scores = knn_scores(train_features, train_labels, test_features, k, num_classes, temperature)
    right = (scores.argmax(1) == test_labels) & scores.isfinite().all(dim=1)
    return right.double().mean().item()
