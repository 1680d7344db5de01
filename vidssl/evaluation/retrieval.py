"""Retrieval: videos of the same class by a video, and videos by sentences and sentences by videos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.duplicates import same_files
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError
from vidssl.evaluation.answers.record import answers_record
from vidssl.evaluation.classes import class_list, join_labels
from vidssl.evaluation.comparison import compare_to_untrained
from vidssl.evaluation.features import FeatureSet, extract_features
from vidssl.evaluation.features.alike import look_alikes
from vidssl.evaluation.metrics import group_numbers
from vidssl.evaluation.ranks import chance_recalls, first_ranks, recall_scores
from vidssl.evaluation.report import Result, data_record, list_hash, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject, read_labelled
from vidssl.evaluation.texts.captions import read_captions
from vidssl.evaluation.texts.classifier import cut_texts

_TITLES = {"trained": "trained", "untrained": "untrained", "motion": "motion energy"}


def retrieval(
    checkpoint: str | Path,
    data: str | Path,
    *,
    gallery: str | Path | None = None,
    captions: str | Path | None = None,
    options: EvalOptions | None = None,
) -> Result:
    """How often what is looked for is among the k nearest by cosine.

    Args:
        data: videos that are looked for, or with: without `captions`, labelled queries.
        gallery: labelled videos to find some of the query's class in; by default the other ones of `data`.
        captions: table of sentences (see `read_captions`): text to video and video to text instead; its videos alone count.

    Returns:
        JSON-able result; ``scores`` holds recalls by title.

    Raises:
        VidsslError: for `gallery` and `captions` together, an encoder without a text tower, or data that do not fit.
    """
    if gallery is not None and captions is not None:
        raise VidsslError(
            "retrieval: a gallery is of videos that are looked for by videos; leave it out, or the captions"
        )
    subject = load_subject(checkpoint, options)
    if captions is not None:
        return sealed(_with_texts(subject, data, captions))
    if gallery is not None and Path(gallery).resolve() == Path(data).resolve():
        raise VidsslError(
            f"gallery: {gallery}: is the data itself, so that every video would find itself; leave it out"
        )
    return sealed(_with_videos(subject, data, gallery))


def _with_videos(subject: Subject, data: str | Path, gallery: str | Path | None) -> Result:
    queries, left_out = read_labelled(data, subject.options)
    found = extract_features(subject, queries, motion=True, description="query features")
    record: Result = {
        "val": data_record(data, queries, found.failures, unlabelled=left_out, fewer_clips=found.fewer_clips)
    }
    if gallery is None:
        there, shown = queries, found
    else:
        there, unlabelled = read_labelled(gallery, subject.options)
        shown = extract_features(subject, there, motion=True, description="gallery features")
        record["train"] = data_record(
            gallery, there, shown.failures, unlabelled=unlabelled, fewer_clips=shown.fewer_clips
        )
        both = distributed.on_first(lambda: same_files(there, queries))
        record["in_both_splits"] = [{"train": there.paths[a], "val": queries.paths[b]} for a, b in both]
        record["look_alikes"] = [
            {"train": there.paths[a], "val": queries.paths[b]}
            for a, b in look_alikes(shown, found)
            if b not in {row for _, row in both}
        ]
    classes = class_list(there.classes, str(gallery or data))
    labels = join_labels(there.labels, classes, str(gallery or data)).ids
    joined = join_labels(queries.labels, classes, str(data))
    scores: dict[str, Any] = {}
    hits, groups = {}, group_numbers(queries.groups)
    for key, title in _TITLES.items():
        if key in found.features:
            ranks = _video_ranks(found, shown, key, joined.ids, labels, alone=gallery is None)
            scores[title], hits[title] = (
                recall_scores(ranks, found.ok[key], groups),
                (ranks < 1) & found.ok[key],
            )
    counts = torch.bincount(labels, minlength=len(classes.names))
    same = torch.where(joined.ids < len(counts), counts[joined.ids.clamp(max=len(counts) - 1)], 0)
    alone = int(gallery is None)
    scores["chance"] = chance_recalls((same - alone).clamp(min=0), len(there) - alone)
    return {
        **result_header("retrieval", subject),
        "kind": "video to video",
        "feature": "clip (mean over frames and clips), cosine",
        "gallery": "the other videos" if gallery is None else str(gallery),
        **record,
        "classes": {"names": classes.names, "hash": list_hash(classes.names), **joined.record()},
        "notes": _constant(found),
        "scores": scores,
        "comparisons": compare_to_untrained(hits, groups=groups),
        "answers": answers_record(queries, hits),
    }


def _video_ranks(
    found: FeatureSet, shown: FeatureSet, key: str, wanted: Tensor, labels: Tensor, alone: bool
) -> Tensor:
    gallery = shown.features[key].clone()
    gallery[~shown.ok[key]] = torch.nan  # cannot be found
    own = torch.arange(len(wanted)) if alone else None
    return first_ranks(found.features[key], gallery, wanted, labels, own)


def _with_texts(subject: Subject, data: str | Path, file: str | Path) -> Result:
    whole = VideoIndex.read(data, subject.options.missing)
    captions = read_captions(file, whole)
    absent = list(dict.fromkeys(captions.absent))
    if absent and subject.options.missing == "error":
        raise VidsslError(
            f"{file}: {len(absent)} of its videos are not in {data}, such as {absent[0]}; --missing skip leaves them out, "
            "count counts them as not found"
        )
    counted = subject.options.missing == "count"
    if subject.encoder.text is None:
        raise VidsslError("retrieval: this encoder has no text tower; it has to start from a CLIP model")
    index = whole.subset(captions.videos)
    found = extract_features(subject, index, description="video features")
    of, videos = torch.tensor(captions.of), torch.arange(len(index))
    scores: dict[str, Any] = {}
    hits: dict[str, Tensor] = {}
    comparisons: dict[str, Any] = {}
    recorded = group_numbers(index.groups)
    unit = videos if recorded is None else recorded
    for key, encoder in (("trained", subject.encoder), ("untrained", subject.untrained)):
        if encoder is None or encoder.text is None:
            continue
        texts = encoder.text.encode(captions.texts).cpu()
        ok, rows = found.ok[f"{key}/unit"], found.features[f"{key}/unit"].clone()
        rows[~ok] = torch.nan
        fine = texts.isfinite().all(dim=1)
        for name, ranks, usable, own, more in (
            ("text to video", first_ranks(texts, rows, of, videos), fine & ok[of], unit[of], captions.absent),
            ("video to text", first_ranks(rows, texts, videos, of), ok, unit, absent),
        ):
            lost = len(more) * counted
            ranks, usable = F.pad(ranks, (0, lost), value=len(index)), F.pad(usable, (0, lost), value=False)
            groups = _units(own, more if counted else ())
            scores[f"{key}, {name}"] = recall_scores(ranks, usable, groups)
            hits[f"{key}, {name}"] = (ranks < 1) & usable
            if key == "untrained":
                pair = {
                    title: hits[title]
                    for title in (f"trained, {name}", f"untrained, {name}")
                    if title in hits
                }
                comparisons |= compare_to_untrained(pair, groups=groups)
    each = torch.bincount(of, minlength=len(index))
    scores["chance, text to video"] = chance_recalls(torch.ones_like(of), len(index))
    scores["chance, video to text"] = chance_recalls(each, len(of))
    return {
        **result_header("retrieval", subject),
        "kind": "text to video and back",
        "feature": "mean of unit frame features, cosine with the sentence as it is",
        "captions": {
            "path": str(file),
            "sentences": len(of),
            "hash": list_hash([*captions.texts, *captions.of]),
            "absent": absent,
        },
        "cut_texts": cut_texts(subject.encoder, [[captions.texts]]),
        "data": data_record(data, index, found.failures, fewer_clips=found.fewer_clips),
        "notes": _constant(found)
        + [
            f"{len(absent)} videos of {file} are not in {data}, {'not found' if counted else 'left out'}, such as {name}"
            for name in absent[:1]
        ],
        "scores": scores,
        "comparisons": comparisons,
    }


def _units(own: Tensor, lost: Sequence[str]) -> Tensor | None:
    """A number for each query, equal for those of one video or recording: `own` of (n,) queries, then those of videos that are not there.

    None where all are by themselves.
    """
    place = {name: len(own) + number for number, name in enumerate(dict.fromkeys(lost))}
    units = torch.cat([own, torch.tensor([place[name] for name in lost], dtype=torch.int64)])
    return None if len(units.unique()) == len(units) else units


def _constant(found: FeatureSet) -> list[str]:
    return [
        f"{title}: all videos have the same features, so that nothing is found"
        for key, title in _TITLES.items()
        if key in found.features and found.constant(key)
    ]
