"""A labelled training and test split seen by frozen encoders: what probes and nearest neighbours are measured on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.concepts.names import match_names
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import class_list, join_labels
from vidssl.evaluation.features import FeatureSet, extract_features
from vidssl.evaluation.metrics import Score, classification_scores, majority_scores
from vidssl.evaluation.report import data_record, list_hash
from vidssl.evaluation.setup import Subject, read_labelled

_TITLES = {"trained": "trained", "untrained": "untrained", "motion": "motion energy"}


@dataclass(frozen=True)
class Splits:
    """Features and labels of N training and M test videos.

    Attributes:
        names: the K classes of the training split.
        train, test: features of the trained and the untrained encoder, and motion energy.
        train_labels: (N,) in [0, K).
        test_labels: (M,), joined by class name; -1 for a class that the training split does not have.
        record: what a result says of them: ``train``, ``val``, ``classes``.
    """

    names: tuple[str, ...]
    train: FeatureSet
    test: FeatureSet
    train_labels: Tensor
    test_labels: Tensor
    record: dict[str, Any]

    @property
    def readable_labels(self) -> Tensor:
        """Labels of the training videos that could be decoded."""
        return self.train_labels[self.train.ok]

    def features(self) -> Iterator[tuple[str, Tensor, Tensor]]:
        """The title of each encoder or baseline, its rows of the readable training videos, and of all test videos."""
        for key, title in _TITLES.items():
            if key in self.train.features:
                yield title, self.train.features[key][self.train.ok], self.test.features[key]

    def scores(self, predictions: Mapping[str, Tensor]) -> dict[str, Score]:
        """Accuracies of (M, K) class scores by title, then of the majority class and of chance."""
        measured = {
            title: classification_scores(rows, self.test_labels, self.test.ok)
            for title, rows in predictions.items()
        }
        majority = majority_scores(self.test_labels, self.train_labels)
        return {**measured, "majority class": majority, "chance": {"top1": 1 / len(self.names)}}


def read_splits(subject: Subject, train: str | Path, val: str | Path) -> Splits:
    """Index two labelled data sets and extract their features.

    Raises:
        VidsslError: for a data set without labels or with a class that has no readable video, and when no class of
            `val` occurs in `train`.
    """
    known, new = (read_labelled(data, subject.options.workers) for data in (train, val))
    classes = class_list(known.classes, str(train))
    train_labels = join_labels(known.labels, classes, str(train))
    found = match_names([label or "" for label in new.labels], classes.names)
    rows = [row for row, position in enumerate(found) if position is not None]
    if not rows:
        raise VidsslError(f"{val}: none of its classes ({', '.join(new.classes[:5])}) occur in {train}")
    test_labels = torch.full((len(found),), -1, dtype=torch.int64)
    test_labels[rows] = join_labels([new.labels[row] for row in rows], classes, str(val))
    fit = extract_features(subject, known, motion=True, description="train features")
    test = extract_features(subject, new, motion=True, description="val features")
    record = {
        "train": data_record(train, known, fit.failures),
        "val": data_record(val, new, test.failures),
        "classes": {"names": classes.names, "hash": list_hash(classes.names)},
    }
    return Splits(classes.names, fit, test, train_labels, test_labels, record)
