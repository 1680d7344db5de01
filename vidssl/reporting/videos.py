"""What an encoder makes of videos: nearest neighbours, clusters, and patches in the colours of their principal components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from torch import Tensor

from vidssl.data.clips import ClipSpec
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.metrics import format_score, wilson_interval
from vidssl.evaluation.patches.colours import principal_colours
from vidssl.evaluation.patches.picture import above_colours
from vidssl.evaluation.patches.videos import whole_videos
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject
from vidssl.models.patches.features import PatchFeatures
from vidssl.reporting.grouping import Tightness, cluster_count, clusters, nearest, tightness
from vidssl.reporting.thumbnails import animated, thumbnails

MOST = 300  # videos that are looked at, spread over the set
QUERIES, NEIGHBOURS = 6, 4
PATCHED, PATCH_FRAMES = 3, 10  # videos in colours, and frames of each


@dataclass
class Card:
    """A video on the page: what it is called, what is said below, its thumbnail ("" where there is none)."""

    name: str
    said: str
    picture: str
    right: bool | None = None


@dataclass
class Gallery:
    """What is shown of videos. Empty lists are left out of the page."""

    data: str
    notes: list[str] = field(default_factory=list)
    neighbours: list[tuple[Card, list[Card]]] = field(default_factory=list)
    clusters: list[tuple[str, list[Card]]] = field(default_factory=list)
    patches: list[Card] = field(default_factory=list)
    tightness: dict[str, Tightness] = field(default_factory=dict)


def gallery(
    checkpoint: str | Path,
    data: str | Path,
    options: EvalOptions | None = None,
    before: str | Path | None = None,
) -> Gallery:
    """Look at some videos with an encoder, and with the one it started from.

    Features come from the cache of the evaluations where they were measured before.

    Args:
        checkpoint: whatever `load_encoder` takes.
        data: folder of videos or a list; labels are shown where there are some.
        before: see `load_subject`.

    Raises:
        VidsslError: for an encoder or data that cannot be read, or fewer than two videos that can.
    """
    subject = load_subject(checkpoint, options, before)
    found = Gallery(str(data))
    index, found.notes = spread(VideoIndex.read(data, "skip"), MOST)
    features = extract_features(subject, index, description="report")
    ok = features.ok["trained"].nonzero()[:, 0].tolist()
    found.notes += [f"left out: {failure.path}: {failure.reason}" for failure in features.failures[:20]]
    if len(ok) < 2:
        raise VidsslError(f"{data}: {len(ok)} videos can be used, two are needed to compare")
    used, rows = index.subset(ok), features.features["trained"][ok]
    near = nearest(rows, min(NEIGHBOURS, len(rows) - 1))
    queries = _queries(used.labels)
    count = cluster_count(used.labels)
    groups = clusters(rows, count)
    shown = thumbnails(
        used,
        [
            *queries,
            *(row for q in queries for row, _ in near[q]),
            *(row for _, best in groups for row in best),
        ],
        workers=subject.options.workers,
    )
    _say_agreement(found, used.labels, features.features, ok)
    for name in ("trained", "untrained"):
        if name in features.features and bool(features.ok[name][ok].all()):
            found.tightness[name] = tightness(features.features[name][ok], count)
    found.notes += [
        f"clusters, {name}: {one.in_words()}" for name, one in found.tightness.items() if count > 1
    ]

    def card(row: int, said: str = "", right: bool | None = None) -> Card:
        label = used.labels[row]
        file = Path(used.paths[row]).name
        return Card(file, said, shown[row], right) if label is None else Card(str(label), said or file, shown[row], right)  # fmt: skip

    for query in queries:
        label = used.labels[query]
        others = [
            card(row, f"cosine {cosine:.2f}", None if label is None else used.labels[row] == label)
            for row, cosine in near[query]
        ]
        found.neighbours.append((card(query), others))
    for members, best in groups:
        found.clusters.append((_composition(members, used.labels), [card(row) for row in best]))
    _add_patches(found, subject, used, queries[:PATCHED])
    return found


def spread(index: VideoIndex, most: int) -> tuple[VideoIndex, list[str]]:
    """At most so many of the videos, evenly over the set, and the line that says so."""
    if len(index) <= most:
        return index, []
    rows = np.linspace(0, len(index) - 1, most).round().astype(int).tolist()
    return index.subset(rows), [f"{most} of {len(index)} videos, spread evenly over the set"]


def _queries(labels: Sequence[str | None]) -> list[int]:
    """Some videos: one of each class where there are classes, spread over the set where not."""
    first = {label: row for row, label in reversed(list(enumerate(labels))) if label is not None}
    rows = sorted(first.values()) if len(first) > 1 else list(range(len(labels)))
    places = np.linspace(0, len(rows) - 1, min(QUERIES, len(rows))).round().astype(int)
    return [rows[place] for place in dict.fromkeys(places.tolist())]


def _composition(members: Sequence[int], labels: Sequence[str | None]) -> str:
    labelled = Counter(label for row in members if (label := labels[row]) is not None)
    kinds = ", ".join(f"{count} {label}" for label, count in labelled.most_common(4))
    more = f", {len(labelled) - 4} other classes" if len(labelled) > 4 else ""
    return counted(len(members), "video") + (f": {kinds}{more}" if kinds else "")


def _say_agreement(
    found: Gallery, labels: Sequence[str | None], features: dict[str, Tensor], ok: Sequence[int]
) -> None:
    """How often the nearest other video is of the same class, beside the untrained encoder and chance."""
    named = [row for row, label in enumerate(labels) if label is not None]
    if len({labels[row] for row in named}) < 2:
        return
    counts = Counter(labels[row] for row in named)
    chance = sum(c * (c - 1) for c in counts.values()) / (len(named) * (len(named) - 1))
    said = []
    for name in ("trained", "untrained"):
        if name in features:
            near = nearest(features[name][list(ok)][named], 1)
            right = sum(labels[named[i]] == labels[named[one[0][0]]] for i, one in enumerate(near))
            share = right / len(named)
            score = {"top1": share, "top1_interval": wilson_interval(right, len(named))}
            said.append(f"{name} {format_score(score)}")
    found.notes.append(
        f"the nearest other video is of the same class: {', '.join(said)}, of two videos drawn at random {100 * chance:.1f} %; videos that were recorded "
        "together make this easy, which the held-out protocols above are not fooled by where groups are known"
    )


def _add_patches(found: Gallery, subject: Subject, index: VideoIndex, rows: Sequence[int]) -> None:
    encoder = subject.encoder
    side = encoder.spec.get("sampling", {}).get("size") or encoder.image_size
    clip = ClipSpec(PATCH_FRAMES, seconds=float("inf"))
    try:
        seen = PatchFeatures(encoder)
        for row, video in zip(rows, whole_videos(index.subset(list(rows)), clip, side), strict=True):
            if video.failure is None:
                pictures, shares = principal_colours(seen(video.shown.to(subject.device)))
                pairs = above_colours(video.frames.numpy(), pictures, seen.stride)
                seconds = float(video.times[-1] - video.times[0])
                said = ", ".join(f"{100 * share:.0f} %" for share in shares.tolist())
                name = str(index.labels[row] or Path(index.paths[row]).name)
                found.patches.append(
                    Card(name, f"variance in red, green, blue: {said}", animated(pairs, seconds))
                )
    except VidsslError as error:
        found.notes.append(f"no colours of patches: {error}")
