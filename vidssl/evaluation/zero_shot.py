"""Zero-shot classification: the class whose text embedding is nearest to the video's.

A zero-shot number means little without what it used: `name_setting` says whether training knew the names of the classes,
and debiased scores use the evaluated videos as a set.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.names import match_names
from vidssl.data.manifest.formats.splits import three_splits
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_choice, check_value, counted
from vidssl.evaluation.answers.calibration import calibration_scores
from vidssl.evaluation.answers.confusion import answers_of
from vidssl.evaluation.answers.record import answers_record
from vidssl.evaluation.answers.suspicion import label_shift, suspicions
from vidssl.evaluation.classes import (
    ClassList,
    find_classes,
    half_of,
    join_labels,
    resolve_templates,
    templates_record,
)
from vidssl.evaluation.comparison import compare_to_untrained
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.metrics import (
    Score,
    chance_scores,
    classification_scores,
    correct_rows,
    group_numbers,
    majority_scores,
)
from vidssl.evaluation.official import mean_of_splits, over_splits
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject, read_labelled
from vidssl.evaluation.texts.classifier import class_prompts, cut_texts, text_classifier, text_tower
from vidssl.evaluation.texts.setting import name_setting
from vidssl.runs import find_initial

K600 = "k600-zero-shot"  # three lists of 160 classes: https://arxiv.org/abs/2208.02816, as ViFi-CLIP and Text4Vis have them


def zero_shot(
    checkpoint: str | Path,
    data: str | Path,
    *,
    classes: str | None = None,
    templates: str | None = None,
    texts: str = "category",
    pooling: str = "unit",
    halves: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Classify the videos of a labelled folder by the text of their classes.

    Args:
        checkpoint: run folder, checkpoint folder or exported encoder with a text tower.
        data: folder ``<class>/<file>`` or a ``path,label`` CSV; ``videos#split=test`` for three official splits, see `over_splits`.
        classes: class list file or a vocabulary such as ``ucf101``; by default a ``classes.csv`` beside the data, else the
            folder names. ``k600-zero-shot`` are the three lists of 160 classes of Kinetics-600 that Kinetics-400 lacks, each
            measured on the videos of its own classes, with their mean; ``k600-zero-shot-1`` to ``-3`` one of them.
        templates: preset, file, or one template with ``{}``.
        texts: ``category`` (names), ``description`` (the sentences of a vocabulary) or ``both``.
        pooling: ``unit``, the mean of unit-length frame features, which averages the scores of frames, or ``clip``, the encoder's own: of an
            image model the mean of its frames as they are.
        halves: so many times half of the classes, see `half_of`, each measured on the videos of its own classes, with their mean; 0: all
            classes once.

    Returns:
        JSON-able result; ``scores`` holds the untrained encoder (of an image CLIP: the mean over its frames) and the
        trained one, both also debiased, majority and chance. ``setting`` of a score says whether it used the evaluated
        videos as a set, and whether the names of their classes were in the vocabulary of training (``names``).
    """
    check_choice("pooling", pooling, ("unit", "clip"))
    check_value("halves", halves, halves == 0 or halves > 1, "0, or 2 and more")
    if halves and (classes == K600 or three_splits(data) is not None):
        raise VidsslError(
            "halves: are of one list of classes and one set of videos; name one, such as #split=test1"
        )
    subject = load_subject(checkpoint, options)
    if halves:
        drawn = range(halves)
        return mean_of_splits(
            [_measured(subject, data, classes, templates, texts, pooling, number) for number in drawn]
        )
    if classes == K600:
        lists = [f"{K600}-{number}" for number in (1, 2, 3)]
        return mean_of_splits([_measured(subject, data, one, templates, texts, pooling) for one in lists])
    return over_splits(lambda one: _measured(subject, one, classes, templates, texts, pooling), data)


def _measured(
    subject: Subject,
    data: str | Path,
    classes: str | None,
    templates: str | None,
    texts: str,
    pooling: str,
    half: int | None = None,
) -> Result:
    index, unlabelled = read_labelled(data, subject.options)
    listed = find_classes(Path(data), index.classes, classes)
    left_out: list[str] = []
    if half is not None:
        listed = half_of(listed, half)
    if half is not None or (classes is not None and classes.startswith(K600)):
        index, left_out = _of_classes(index, listed)
    joined = join_labels(index.labels, listed, str(data))
    chosen = resolve_templates(templates, listed)
    cut = cut_texts(subject.encoder, class_prompts(listed, chosen, texts))
    features = extract_features(subject, index, description="zero-shot")
    labels, groups = joined.ids, group_numbers(index.groups)
    initial = find_initial(subject.path)
    keys = {name: f"{name}/unit" if pooling == "unit" else name for name in ("untrained", "trained")}
    names = name_setting(None if initial is None else initial.parent, listed)
    rated: dict[str, Rated] = {}
    classifiers: dict[
        str, Tensor
    ] = {}  # by text tower: training leaves it as it was, and so the prompts' features
    for name, encoder, setting in (
        ("untrained", subject.untrained, "inductive"),  # no vocabulary has touched it
        ("trained", subject.encoder, names["setting"]),
    ):
        if encoder is not None:
            tower = text_tower(encoder).fingerprint
            if tower not in classifiers:
                classifiers[tower] = text_classifier(encoder, listed, chosen, texts).cpu()
            key = keys[name]
            rows, ok = features.features[key], features.ok[key]
            heat = text_tower(encoder).temperature
            rated |= rated_with_debiased(name, rows, classifiers[tower], labels, ok, setting, groups, heat)
    scores = {name: row.score for name, row in rated.items()}
    scores["majority class"] = majority_scores(labels, labels[labels < len(listed.names)])
    scores["chance"] = chance_scores(labels, len(listed.names))
    return {
        **result_header("zero-shot", subject),
        "data": data_record(
            data, index, features.failures, unlabelled=unlabelled, fewer_clips=features.fewer_clips
        ),
        "classes": {
            "source": listed.source,
            "names": listed.names,
            "texts": listed.texts,
            "hash": listed.fingerprint,
            **joined.record(),
        },
        "texts": texts,
        **({} if pooling == "unit" else {"pooling": pooling}),
        "cut_texts": cut,
        "templates": templates_record(chosen),
        "names": names,
        "notes": left_out
        + [
            f"{name}: all videos have the same features, so that it gives one answer for all of them"
            for name in ("untrained", "trained")
            if keys[name] in features.features and features.constant(keys[name])
        ]
        + [
            line
            for name in ("untrained", "trained")
            if name in rated
            for line in _suspicions(name, rated[name], scores["chance"]["top1"], labels, len(listed.names))
        ],
        "scores": scores,
        "answers": answers_record(index, {name: row.answers for name, row in rated.items()}, labels),
        "comparisons": compare_to_untrained(
            {name: row.correct for name, row in rated.items()}, groups=groups
        ),
    }


def zero_shot_scores(
    features: Tensor, classifier: Tensor, debias: bool = False, ok: Tensor | None = None
) -> Tensor:
    """(N, K) cosines of (N, D) video features with the (K, D) classifier.

    Args:
        debias: subtract each class's mean score over the evaluated videos. This takes away the advantage of class texts
            that are close to every video; it uses the test videos as a set and is therefore transductive.
        ok: (N,) rows that take part in that mean; those that are not finite never do.
    """
    scores = F.normalize(features.float(), dim=-1) @ classifier.to(features.device).float().T
    if debias:
        part = scores.isfinite().all(dim=1) if ok is None else ok & scores.isfinite().all(dim=1)
        if bool(part.any()):
            scores = scores - scores[part].mean(0)
    return scores


def _of_classes(index: VideoIndex, listed: ClassList) -> tuple[VideoIndex, list[str]]:
    """The videos of these classes, and the line that says how many others are left out."""
    labels = [str(label) for label in index.labels]
    places = dict(zip(index.classes, match_names(index.classes, listed.names, listed.aliases), strict=True))
    rows = [row for row, label in enumerate(labels) if places[label] is not None]
    if not rows:
        return index, []  # which `join_labels` refuses
    others = {label for label in labels if places[label] is None}
    left_out = f"{counted(len(index) - len(rows), 'video')} of {counted(len(others), 'other class')}"
    line = f"{listed.source}: left out, as this protocol has it: {left_out}"
    return index.subset(rows), [line] if others else []


def _suspicions(name: str, row: Rated, chance: float, labels: Tensor, classes: int) -> list[str]:
    shift = label_shift(labels.tolist(), row.answers.tolist(), classes)
    return suspicions(name, row.score, chance, shift, classes)


class Rated(NamedTuple):
    """A row of the table, (N,) bool, which videos it got right, and (N,) int64, the classes answered (see `answers_of`)."""

    score: Score
    correct: Tensor
    answers: Tensor


def rated_with_debiased(
    name: str,
    features: Tensor,
    classifier: Tensor,
    labels: Tensor,
    ok: Tensor,
    names: str,
    groups: Tensor | None = None,
    temperature: float | None = None,
) -> dict[str, Rated]:
    """Accuracies of one encoder, plain and debiased, each with the `setting` it was measured in.

    Args:
        name: of the row.
        features: (N, D). classifier: (K, D). labels: (N,). ok: (N,) videos that can be used.
        names: setting of the class names, as `name_setting` gives it.
        groups: (N,) see `classification_scores`.
        temperature: of the text tower, for `calibration_scores`; None leaves them out.
    """
    rows = {}
    for suffix, debias in (("", False), (", debiased (transductive)", True)):
        scores = zero_shot_scores(features, classifier, debias, ok)
        score = classification_scores(scores, labels, ok, groups)
        videos = "transductive" if debias else "inductive"
        score["setting"] = {"videos": videos, "names": names}
        right = correct_rows(scores, labels, ok)
        if temperature is not None:
            score |= calibration_scores(scores, right, ok, temperature)
        rows[name + suffix] = Rated(score, right, answers_of(scores, labels, ok))
    return rows
