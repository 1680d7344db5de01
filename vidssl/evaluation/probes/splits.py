"""A labelled training and test split seen by frozen encoders: what probes and nearest neighbours are measured on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.duplicates import same_files
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.answers.confusion import answers_of
from vidssl.evaluation.answers.record import answers_record
from vidssl.evaluation.answers.suspicion import probe_suspicions
from vidssl.evaluation.classes import class_list, join_labels
from vidssl.evaluation.comparison import compare_to_untrained
from vidssl.evaluation.features import FeatureSet, extract_features
from vidssl.evaluation.features.alike import look_alikes
from vidssl.evaluation.features.sources import CLIP, UNIT, Kind
from vidssl.evaluation.metrics import (
    chance_scores,
    classification_scores,
    correct_rows,
    group_numbers,
    majority_scores,
)
from vidssl.evaluation.report import data_record, list_hash
from vidssl.evaluation.setup import Subject, read_labelled

_TITLES = {"trained": "trained", "untrained": "untrained", "motion": "motion energy"}


class Frozen(NamedTuple):
    """What one encoder or baseline sees of both splits.

    train: (n, D) rows of the training videos it can use; labels, groups: (n,) of these; test: (M, D) rows of all test
    videos; ok: (M,) bool, those it can use; usable: (N,) bool, which of all training videos the n are.
    """

    title: str
    train: Tensor
    labels: Tensor
    test: Tensor
    ok: Tensor
    usable: Tensor
    groups: Tensor | None = None


@dataclass(frozen=True)
class Splits:
    """Features and labels of N training and M test videos.

    Attributes:
        names: the K classes of the training split.
        train, test: features of the trained and the untrained encoder, and motion energy.
        train_labels: (N,) in [0, K).
        test_labels: (M,), joined by class name; K and above for classes that the training split does not have.
        record: what a result says of them: ``train``, ``val``, ``classes``, ``in_both_splits``, ``notes``; with motion
            ``look_alikes``, and where groups are recorded ``groups_in_both_splits``.
        train_groups, test_groups: (N,) and (M,) one number for all videos that were recorded together, None where nothing is
            known.
        indices: the training and test videos.
    """

    names: tuple[str, ...]
    train: FeatureSet
    test: FeatureSet
    train_labels: Tensor
    test_labels: Tensor
    record: dict[str, Any]
    train_groups: Tensor | None = None
    test_groups: Tensor | None = None
    indices: tuple[VideoIndex, VideoIndex] | None = None

    def frozen(self) -> Iterator[Frozen]:
        """What each encoder and baseline has to work with.

        Raises:
            VidsslError: for an encoder that can use none of the training videos.
        """
        for key, title in _TITLES.items():
            if key not in self.train.features:
                continue
            ok = self.train.ok[key]
            if not bool(ok.any()):
                raise VidsslError(f"{title}: none of the {len(ok)} training videos can be used")
            rows, labels = self.train.features[key][ok], self.train_labels[ok]
            groups = None if self.train_groups is None else self.train_groups[ok]
            yield Frozen(title, rows, labels, self.test.features[key], self.test.ok[key], ok, groups)

    def scored(self, predictions: Mapping[str, tuple[Frozen, Tensor]]) -> dict[str, Any]:
        """`scores`, `comparisons` and `answers` of a result.

        Args:
            predictions: title -> whose it is, and (M, K) class scores.

        Returns:
            Accuracies by title, then of the majority class and of chance; trained against untrained; and the `answers`.
        """
        labels = self.test_labels
        scores = {
            title: classification_scores(rows, labels, frozen.ok, self.test_groups)
            for title, (frozen, rows) in predictions.items()
        }
        scores["majority class"] = majority_scores(labels, self.train_labels)
        scores["chance"] = chance_scores(labels, len(self.names))
        right = {
            title: correct_rows(rows, labels, frozen.ok) for title, (frozen, rows) in predictions.items()
        }
        return {
            "scores": scores,
            "comparisons": compare_to_untrained(right, groups=self.test_groups),
            "answers": self._answers(predictions),
        }

    def suspicions(self, predictions: Mapping[str, tuple[Frozen, Tensor]]) -> list[str]:
        """Lines about the trained encoder's answers where they are not beyond chance, or fit labels that are shifted; see `scored`."""
        labels, found = self.test_labels, []
        for title, (frozen, rows) in predictions.items():
            if title.startswith("trained"):
                score = classification_scores(rows, labels, frozen.ok, self.test_groups)
                answers = answers_of(rows, labels, frozen.ok).tolist()
                found += probe_suspicions(title, score, labels.tolist(), answers, len(self.names))
        return found

    def _answers(self, predictions: Mapping[str, tuple[Frozen, Tensor]]) -> dict[str, Any]:
        if self.indices is None:
            return {}
        labels = self.test_labels
        answered = {
            title: answers_of(rows, labels, frozen.ok) for title, (frozen, rows) in predictions.items()
        }
        return answers_record(self.indices[1], answered, labels)


def read_splits(
    subject: Subject,
    train: str | Path,
    val: str | Path,
    *,
    kinds: Sequence[Kind] | Callable[[int], Sequence[Kind]] = (CLIP, UNIT),
    motion: bool = True,
) -> Splits:
    """Index two labelled data sets and extract their features.

    Args:
        kinds, motion: of features, as in `extract_features`; also kinds by the number of videos of both.

    Raises:
        VidsslError: for a data set without labels or with a class that has no readable video, and when no class of
            `val` occurs in `train`.
    """
    (known, known_left_out), (new, new_left_out) = (
        read_labelled(data, subject.options) for data in (train, val)
    )
    classes = class_list(known.classes, str(train))
    train_labels = join_labels(known.labels, classes, str(train)).ids
    joined = join_labels(new.labels, classes, str(val))
    both = distributed.on_first(lambda: same_files(known, new))
    if callable(kinds):
        kinds = kinds(len(known) + len(new))
    fit = extract_features(subject, known, motion=motion, kinds=kinds, description="train features")
    test = extract_features(subject, new, motion=motion, kinds=kinds, description="val features")
    record = {
        "train": data_record(
            train, known, fit.failures, unlabelled=known_left_out, fewer_clips=fit.fewer_clips
        ),
        "val": data_record(val, new, test.failures, unlabelled=new_left_out, fewer_clips=test.fewer_clips),
        "classes": {"names": classes.names, "hash": list_hash(classes.names), **joined.record()},
        "in_both_splits": [{"train": known.paths[a], "val": new.paths[b]} for a, b in both],
        "notes": [
            f"{title}: all training videos have the same features, so that it gives one answer for all test videos"
            for key, title in _TITLES.items()
            if key in fit.features and fit.constant(key)
        ]
        + ["classes are bare numbers: that they mean the same in both splits is taken on trust"]
        * all(name.isdecimal() for name in classes.names),
    }
    if motion:
        record["look_alikes"] = [
            {"train": known.paths[a], "val": new.paths[b]}
            for a, b in look_alikes(fit, test)
            if b not in {row for _, row in both}
        ]
    if known.groups and new.groups:
        record["groups_in_both_splits"] = sorted({x for x in known.groups if x} & {*new.groups})
    groups = (group_numbers(known.groups), group_numbers(new.groups))
    return Splits(classes.names, fit, test, train_labels, joined.ids, record, *groups, (known, new))
