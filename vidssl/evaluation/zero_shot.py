"""Zero-shot classification: the class whose text embedding is nearest to the video's.

A zero-shot number means little without what it used: `name_setting` says whether training knew the names of the classes,
and debiased scores use the evaluated videos as a set.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.names import match_names
from vidssl.concepts.templates import render
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.config import load_config
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.evaluation.classes import ClassList, find_classes, join_labels, resolve_templates
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
from vidssl.evaluation.official import over_splits
from vidssl.evaluation.report import Result, data_record, list_hash, result_header
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject, read_labelled
from vidssl.models.encoder import TextTower, VideoEncoder
from vidssl.runs import CONFIG, find_initial

Texts = Literal["category", "description", "both"]


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
        data: folder ``<class>/<file>`` or a ``path,label`` CSV; ``videos#split=test`` for three official splits, see `over_splits`.
        classes: class list file or a vocabulary such as ``ucf101``; by default a ``classes.csv`` beside the data, else the
            folder names.
        templates: preset, file, or one template with ``{}``.
        texts: ``category`` (names), ``description`` (the sentences of a vocabulary) or ``both``.

    Returns:
        JSON-able result; ``scores`` holds the untrained encoder (of an image CLIP: the mean over its frames) and the
        trained one, both also debiased, majority and chance. ``setting`` of a score says whether it used the evaluated
        videos as a set, and whether the names of their classes were in the vocabulary of training (``names``).
    """
    subject = load_subject(checkpoint, options)
    return over_splits(lambda one: _measured(subject, one, classes, templates, texts), data)


def _measured(
    subject: Subject, data: str | Path, classes: str | None, templates: str | None, texts: str
) -> Result:
    index, unlabelled = read_labelled(data, subject.options)
    listed = find_classes(Path(data), index.classes, classes)
    joined = join_labels(index.labels, listed, str(data))
    chosen = resolve_templates(templates, listed)
    cut = cut_texts(subject.encoder, class_prompts(listed, chosen, texts))
    features = extract_features(subject, index, description="zero-shot")
    labels, groups = joined.ids, group_numbers(index.groups)
    initial = find_initial(subject.path)
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
            tower = _tower(encoder).fingerprint
            if tower not in classifiers:
                classifiers[tower] = text_classifier(encoder, listed, chosen, texts).cpu()
            rows, ok = features.features[f"{name}/unit"], features.ok[f"{name}/unit"]
            rated |= rated_with_debiased(name, rows, classifiers[tower], labels, ok, setting, groups)
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
        "cut_texts": cut,
        "templates": {"list": chosen, "hash": list_hash(chosen)},
        "names": names,
        "notes": [
            f"{name}: all videos have the same features, so that it gives one answer for all of them"
            for name in ("untrained", "trained")
            if f"{name}/unit" in features.features and features.constant(f"{name}/unit")
        ],
        "scores": scores,
        "comparisons": compare_to_untrained(
            {name: row.correct for name, row in rated.items()}, groups=groups
        ),
    }


def text_classifier(
    encoder: VideoEncoder, classes: ClassList, templates: Sequence[str], texts: str = "category"
) -> Tensor:
    """(K, D) unit rows: each prompt's embedding normalised, averaged over the class, normalised again.

    The order of Radford et al. 2021 (CLIP), §3.1.4.

    Args:
        templates: filled with the classes' texts.
        texts: ``category`` takes those prompts, ``description`` the classes' sentences instead, ``both`` the
            normalised mean of the two rows.

    Raises:
        VidsslError: for an encoder without a text tower, another `texts`, classes without descriptions, or embeddings that
            are not finite.
    """
    prompts = class_prompts(classes, templates, texts)
    rows = torch.stack([_class_rows(_tower(encoder), kind) for kind in prompts])
    finite = rows.isfinite().all(dim=-1).all(dim=0)
    if not bool(finite.all()):
        named = ", ".join(name for name, fine in zip(classes.names, finite.tolist(), strict=True) if not fine)
        raise VidsslError(f"zero-shot: the text tower gives nothing finite for {named}")
    return F.normalize(rows.mean(dim=0), dim=-1)


def class_prompts(
    classes: ClassList, templates: Sequence[str], texts: str = "category"
) -> list[Sequence[Sequence[str]]]:
    """For each kind of text that `texts` asks for, the prompts of each class; arguments as in `text_classifier`.

    Raises:
        VidsslError: for another `texts`, or classes without descriptions.
    """
    check_choice("texts", texts, get_args(Texts), NAMED)
    if texts != "category" and not classes.descriptions:
        raise VidsslError(
            f"texts {texts!r}: {classes.source} has no descriptions; name a concept file or a vocabulary as classes"
        )
    prompts: list[Sequence[Sequence[str]]] = []
    if texts != "description":
        prompts.append([[render(template, text) for template in templates] for text in classes.texts])
    if texts != "category":
        prompts.append(classes.descriptions)
    return prompts


def cut_texts(encoder: VideoEncoder, prompts: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """The tower's `context_length` in tokens, and the `texts` that are longer: it sees only their beginning."""
    tower = _tower(encoder)
    texts = dict.fromkeys(text for kind in prompts for own in kind for text in own)
    # A token is at least a byte; start and end are one each.
    long = [text for text in texts if len(text.encode()) + 2 > tower.context_length]
    cut = [text for text in long if tower.num_tokens(text) > tower.context_length]
    return {"context_length": tower.context_length, "texts": cut}


def _tower(encoder: VideoEncoder) -> TextTower:
    if encoder.text is None:
        raise VidsslError("zero-shot: this encoder has no text tower; it has to start from a CLIP model")
    return encoder.text


def _class_rows(tower: TextTower, prompts: Sequence[Sequence[str]]) -> Tensor:
    embedded = F.normalize(tower.encode([text for own in prompts for text in own]).float(), dim=-1)
    means = [rows.mean(dim=0) for rows in embedded.split([len(own) for own in prompts])]
    return F.normalize(torch.stack(means), dim=-1)


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


class Rated(NamedTuple):
    """A row of the table, and (N,) bool, which videos it got right."""

    score: Score
    correct: Tensor


def rated_with_debiased(
    name: str,
    features: Tensor,
    classifier: Tensor,
    labels: Tensor,
    ok: Tensor,
    names: str,
    groups: Tensor | None = None,
) -> dict[str, Rated]:
    """Accuracies of one encoder, plain and debiased, each with the `setting` it was measured in.

    Args:
        name: of the row.
        features: (N, D). classifier: (K, D). labels: (N,). ok: (N,) videos that can be used.
        names: setting of the class names, as `name_setting` gives it.
        groups: (N,) see `classification_scores`.
    """
    rows = {}
    for suffix, debias in (("", False), (", debiased (transductive)", True)):
        scores = zero_shot_scores(features, classifier, debias, ok)
        score = classification_scores(scores, labels, ok, groups)
        videos = "transductive" if debias else "inductive"
        score["setting"] = {"videos": videos, "names": names}
        rows[name + suffix] = Rated(score, correct_rows(scores, labels, ok))
    return rows


def name_setting(run: Path | None, classes: ClassList) -> dict[str, Any]:
    """Whether training in a concept space knew the names of the classes it is evaluated on.

    Args:
        run: the run folder; None where an encoder lies outside one.
        classes: those of the evaluation.

    Returns:
        `vocabulary` (of the run's concept objectives, None without any), `known`: how many of the `classes` are names or
        aliases in it, joined by name, and `setting`: ``inductive`` for none of them, ``transductive`` for all,
        ``partly transductive`` for some, ``unknown`` where the vocabulary cannot be told.
    """
    record: dict[str, Any] = {"vocabulary": None, "known": 0, "classes": len(classes.names)}
    try:
        if run is None:
            raise VidsslError("no run folder")
        record["vocabulary"] = vocabulary = training_vocabulary(run)
        concepts = () if vocabulary is None else load_concepts(vocabulary).concepts
    except VidsslError as error:
        return {**record, "known": None, "setting": "unknown", "reason": str(error)}
    words = [word for concept in concepts for word in (concept.name, *concept.aliases)]
    known = sum(position is not None for position in match_names(classes.names, words))
    kinds = {0: "inductive", len(classes.names): "transductive"}
    return {**record, "known": known, "setting": kinds.get(known, "partly transductive")}


def training_vocabulary(run: Path) -> str | None:
    """The vocabulary of a run's concept objectives, joined by ``+``; None when it has none."""
    objectives = load_config(run / CONFIG).objective
    given = [
        str(options.get("vocabulary", DEFAULT_VOCABULARY))
        for name, options in objectives.items()
        if options.get("objective", name) in ("concept", "phases")
    ]
    return "+".join(dict.fromkeys(given)) or None
