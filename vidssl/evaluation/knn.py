"""Weighted k-nearest-neighbour classification (Wu et al. 2018, arXiv 1805.01978, §3.4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluation.report import Result, result_header
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.evaluation.splits import read_splits


def knn(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    k: Sequence[int] = (1, 5, 20),
    temperature: float = 0.07,
    options: EvalOptions | None = None,
) -> Result:
    """Weighted k-nearest-neighbour classification of frozen clip features, one score for each k."""
    subject = load_subject(checkpoint, options)
    splits = read_splits(subject, train, val)
    labels, classes = splits.readable_labels, len(splits.names)
    votes = {
        f"{title}, k = {neighbours}": knn_scores(bank, labels, rows, neighbours, classes, temperature)
        for title, bank, rows in splits.features()
        for neighbours in k
    }
    return {
        **result_header("knn", subject),
        "k": list(k),
        "temperature": temperature,
        **splits.record,
        "scores": splits.scores(votes),
    }


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
        (M, num_classes) votes, scaled so that the nearest neighbour's vote is 1.

    Raises:
        ValueError: if k < 1 or there are no training rows.
    """
    if k < 1 or len(train_features) == 0:
        raise ValueError(f"knn: k = {k} with {len(train_features)} training rows; both must be at least 1")
    k = min(k, len(train_features))
    bank = F.normalize(train_features.float(), dim=1)
    rows = []
    for queries in F.normalize(test_features.float(), dim=1).split(chunk):
        similarity, neighbours = (queries @ bank.T).topk(k, dim=1)
        # Relative to the nearest neighbour: exp(1 / 0.07) would be large, and votes are scale-free.
        weights = ((similarity - similarity[:, :1]) / temperature).exp()
        votes = weights.new_zeros(len(queries), num_classes)
        rows.append(votes.scatter_add_(1, train_labels[neighbours], weights))
    return torch.cat(rows) if rows else bank.new_zeros(0, num_classes)


def knn_accuracy(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    k: int,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy in [0, 1] of `knn_scores`; a test class without training rows is wrong."""
    num_classes = int(torch.cat([train_labels, test_labels]).max()) + 1
    scores = knn_scores(train_features, train_labels, test_features, k, num_classes, temperature)
    return (scores.argmax(1) == test_labels).double().mean().item()
