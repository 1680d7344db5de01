"""The evaluations as one call each: checkpoint and folders in, a result with its baselines out.

Every trained number stands beside that of the untrained encoder and of baselines that need no encoder, and every
result records what it depends on: class list, templates, file list, sampling and versions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl import distributed
from vidssl.concepts.names import match_names
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import (
    class_list,
    find_classes,
    join_labels,
    read_classes,
    resolve_templates,
)
from vidssl.evaluation.knn import knn_scores
from vidssl.evaluation.metrics import classification_scores, majority_scores
from vidssl.evaluation.probes import probe
from vidssl.evaluation.setup import (
    EvalOptions,
    Split,
    Subject,
    data_record,
    features_of,
    load_subject,
    sampling_record,
    split_features,
)
from vidssl.evaluation.zero_shot import (
    name_setting,
    scores_with_debiased,
    text_classifier,
    zero_shot_scores,
)
from vidssl.files import write_json, write_tensors
from vidssl.runs import find_initial

Result = dict[str, Any]


def zero_shot(
    checkpoint: str | Path,
    data: str | Path,
    *,
    classes: str | None = None,
    templates: str | None = None,
    texts: str = "category",
    options: EvalOptions | None = None,
) -> Result:
    """Classify the videos of a labelled folder by the text of their classes.

    Args:
        checkpoint: run folder, checkpoint folder or exported encoder with a text tower.
        data: folder ``<class>/<file>`` or a ``path,label`` CSV.
        classes: class list file or a vocabulary such as ``ucf101``; by default a ``classes.csv`` beside the data, else the
            folder names.
        templates: preset, file, or one template with ``{}``.
        texts: ``category`` (names), ``description`` (the sentences of a vocabulary) or ``both``.

    Returns:
        JSON-able result; ``scores`` holds the untrained encoder (of an image CLIP: the mean over its frames) and the
        trained one, both also debiased, majority and chance. ``setting`` of a score says whether it used the evaluated
        videos as a set, and whether the names of their classes were in the vocabulary of training (``names``).
    """
    options = options or EvalOptions()
    subject = load_subject(checkpoint, options.device)
    split = split_features(subject, data, options, description="zero-shot")
    listed = find_classes(Path(data), split.index.classes, classes)
    labels = join_labels(split.index.labels, listed, str(data))
    chosen = resolve_templates(templates, listed)
    ok = split.features.ok
    initial = find_initial(Path(checkpoint))
    names = name_setting(None if initial is None else initial.parent, listed)
    scores: dict[str, dict[str, Any]] = {}
    for name, encoder, setting in (
        ("untrained", subject.untrained, "inductive"),  # no vocabulary has touched it
        ("trained", subject.encoder, names["setting"]),
    ):
        if encoder is None:
            continue
        classifier = text_classifier(encoder, listed, chosen, texts).cpu()
        rows = split.features.features[f"{name}/unit"]
        scores |= scores_with_debiased(name, rows, classifier, labels, ok, setting)
    scores["majority class"] = majority_scores(labels)
    scores["chance"] = {"top1": 1 / len(listed.names)}
    return {
        **_header("zero-shot", subject, options),
        "data": split.record,
        "classes": {
            "source": listed.source,
            "names": listed.names,
            "texts": listed.texts,
            "hash": listed.fingerprint,
        },
        "texts": texts,
        "templates": {"list": chosen, "hash": _hash(chosen)},
        "names": names,
        "scores": scores,
    }


def linear_probe(
    checkpoint: str | Path,
    train: str | Path,
    val: str | Path,
    *,
    seed: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Logistic regression on frozen clip features, its penalty chosen on a held-out part of `train`.

    Returns:
        JSON-able result; ``scores`` holds the trained encoder, the untrained one, motion energy, majority and chance.
    """
    options = options or EvalOptions()
    subject = load_subject(checkpoint, options.device)
    splits, names, train_labels, val_labels = _two_splits(subject, train, val, options, motion=True)
    fit, test = splits
    scores: dict[str, dict[str, Any]] = {}
    penalties = {}
    for key, title in (("trained", "trained"), ("untrained", "untrained"), ("motion", "motion energy")):
        if key not in fit.features.features:
            continue
        use = fit.features.ok
        logits, penalties[title] = probe(
            fit.features.features[key][use],
            train_labels[use],
            test.features.features[key],
            len(names),
            seed=seed,
        )
        scores[title] = classification_scores(logits, val_labels, test.features.ok)
    scores |= _floors(train_labels, val_labels, len(names))
    return {
        **_header("linear-probe", subject, options),
        "feature": "clip (mean over frames and clips, in the encoder's output space)",
        "l2": penalties,
        "seed": seed,
        "train": fit.record,
        "val": test.record,
        "classes": {"names": names, "hash": _hash(names)},
        "scores": scores,
    }


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
    options = options or EvalOptions()
    subject = load_subject(checkpoint, options.device)
    splits, names, train_labels, val_labels = _two_splits(subject, train, val, options, motion=True)
    fit, test = splits
    use = fit.features.ok
    scores: dict[str, dict[str, Any]] = {}
    for key, title in (("trained", "trained"), ("untrained", "untrained"), ("motion", "motion energy")):
        if key not in fit.features.features:
            continue
        for neighbours in k:
            votes = knn_scores(
                fit.features.features[key][use],
                train_labels[use],
                test.features.features[key],
                neighbours,
                len(names),
                temperature,
            )
            scores[f"{title}, k = {neighbours}"] = classification_scores(votes, val_labels, test.features.ok)
    scores |= _floors(train_labels, val_labels, len(names))
    return {
        **_header("knn", subject, options),
        "k": list(k),
        "temperature": temperature,
        "train": fit.record,
        "val": test.record,
        "classes": {"names": names, "hash": _hash(names)},
        "scores": scores,
    }


def _two_splits(
    subject: Subject, train: str | Path, val: str | Path, options: EvalOptions, motion: bool
) -> tuple[tuple[Split, Split], tuple[str, ...], Tensor, Tensor]:
    """Features of both splits and their labels, joined by class name; a class unseen in training is -1 in `val`."""
    fit = split_features(subject, train, options, motion=motion, description="train features")
    test = split_features(subject, val, options, motion=motion, description="val features")
    classes = class_list(fit.index.classes, str(train))
    train_labels = join_labels(fit.index.labels, classes, str(train))
    found = match_names([label or "" for label in test.index.labels], classes.names)
    seen = [position is not None for position in found]
    if not any(seen):
        raise VidsslError(
            f"{val}: none of its classes ({', '.join(test.index.classes[:5])}) occur in {train}"
        )
    val_labels = torch.full((len(seen),), -1, dtype=torch.int64)
    rows = [row for row, flag in enumerate(seen) if flag]
    val_labels[rows] = join_labels([test.index.labels[row] for row in rows], classes, str(val))
    return (fit, test), classes.names, train_labels, val_labels


def _floors(train_labels: Tensor, val_labels: Tensor, classes: int) -> dict[str, dict[str, Any]]:
    return {
        "majority class": majority_scores(val_labels, train_labels),
        "chance": {"top1": 1 / classes},
    }


def _header(task: str, subject: Subject, options: EvalOptions) -> Result:
    return {
        "task": task,
        "checkpoint": subject.name,
        "model": {key: value for key, value in subject.encoder.spec.items() if key != "model_cfg"},
        "sampling": sampling_record(options.spec(subject.encoder)),
        "decoder": options.backend,
        "environment": {**environment(), "processes": distributed.world_size()},
    }


def _hash(values: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def classify(
    checkpoint: str | Path,
    video: str | Path,
    labels: str,
    *,
    templates: str | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """Which of some actions one video shows.

    Args:
        labels: class names separated by commas, or a class list file.

    Returns:
        JSON-able result; ``probabilities`` maps names to numbers that sum to 1, most likely first.

    Raises:
        VidsslError: when the video cannot be decoded (named with the reason).
    """
    options = options or EvalOptions()
    subject = load_subject(checkpoint, options.device)
    if Path(labels).is_file():
        listed = read_classes(Path(labels))
    else:
        listed = class_list([name.strip() for name in labels.split(",") if name.strip()], "labels")
    chosen = resolve_templates(templates, listed)
    index = VideoIndex.of_files([video])
    features = features_of(subject, index, options, description="classify")
    if features.failures:
        raise VidsslError(f"{video}: {features.failures[0].reason}")
    classifier = text_classifier(subject.encoder, listed, chosen).cpu()
    cosines = zero_shot_scores(features.features["trained/unit"], classifier)[0]
    assert subject.encoder.text is not None, "text_classifier needs it"
    order = cosines.argsort(descending=True)
    probabilities = (cosines / subject.encoder.text.temperature).softmax(0)
    return {
        **_header("classify", subject, options),
        "video": str(video),
        "templates": {"list": chosen, "hash": _hash(chosen)},
        "probabilities": {listed.names[i]: probabilities[i].item() for i in order.tolist()},
    }


def extract(
    checkpoint: str | Path, data: str | Path, output: str | Path, *, options: EvalOptions | None = None
) -> Result:
    """Write the clip features (N, D) of every video of a folder to `output` (safetensors), names to a JSON beside it.

    Tensors: ``features`` float32 (rows of unreadable videos are zero) and ``ok`` bool.
    """
    options = options or EvalOptions()
    subject = load_subject(checkpoint, options.device)
    index = VideoIndex.read(data)
    features = features_of(replace(subject, untrained=None), index, options, description="extract")
    rows = features.features["trained"]
    record = {
        **_header("extract", subject, options),
        "shape": list(rows.shape),
        "data": data_record(data, index, features),
        "videos": [
            {"path": path, "label": label} for path, label in zip(index.paths, index.labels, strict=True)
        ],
    }
    if distributed.rank() == 0:
        write_tensors(output, {"features": rows, "ok": features.ok})
        write_json(Path(output).with_suffix(".json"), record)
    return record
