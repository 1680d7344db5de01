"""`vidssl geometry`: what can be said of features without labels, beside the start of training, other encoders and noise.

>>> result = geometry("runs/first", "data/ucf101/val", against=["runs/second"])
>>> result["rows"]["trained"]["rankme"], result["cka"]["encoders"]["trained"]["runs/second"]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_value, counted
from vidssl.evaluation.features import FeatureSet, extract_features
from vidssl.evaluation.geometry.drift import feature_drift, weight_drift
from vidssl.evaluation.geometry.layers import OUTPUT, VIDEOS, cka_matrix, layer_means
from vidssl.evaluation.geometry.measure import NOISE, geometry_of, noise_like
from vidssl.evaluation.report import Result, data_record, result_header
from vidssl.evaluation.results.protocol import sealed
from vidssl.evaluation.setup import EvalOptions, Subject, load_subject

TITLES = ("trained", "untrained")


def geometry(
    checkpoint: str | Path,
    data: str | Path,
    *,
    against: Sequence[str | Path] = (),
    videos: int = VIDEOS,
    seed: int = 0,
    options: EvalOptions | None = None,
) -> Result:
    """Rank, alignment, uniformity and spectrum of clip features, CKA of layers and encoders, and drift from the start.

    Args:
        checkpoint: whatever names an encoder, see `load_encoder`; of a run also the encoder it started from.
        data: videos; labels are not used.
        against: other encoders, each shown the same videos in its own way.
        videos: compared by CKA at most, drawn from `seed`.
        seed: of these, and of the noise.
        options: how videos are shown; the clips of a video are the views that alignment and LiDAR ask for.

    Returns:
        JSON-able result; see docs/evaluation.md.

    Raises:
        VidsslError: for encoders of one name, data without videos, or fewer than 4 videos for CKA.
    """
    check_value("videos", videos, videos >= 4, "at least 4")
    names = [str(name) for name in against]
    for given in (*names, str(checkpoint)):
        if [*names, str(checkpoint), *TITLES].count(given) > 1:
            raise VidsslError(f"against: {given}: is named twice")
    subject = load_subject(checkpoint, options)
    index = VideoIndex.read(data, subject.options.missing)
    chosen = index.subset(_chosen(len(index), videos, seed))
    rows: dict[str, Any] = {}
    layers: dict[str, dict[str, Tensor]] = {}
    failures: dict[int, Any] = {}
    drift = None
    others = [(replace(load_subject(other, options), untrained=None), other) for other in names]
    both: list[tuple[Subject, str | None]] = [(subject, None), *others]
    for own, name in both:
        found = extract_features(own, index, apart=True, description="geometry")
        failures |= {failure.video_id: failure for failure in found.failures}
        means = layer_means(own, chosen)
        for title in TITLES:
            if title in found.features:
                rows[name or title] = _row(found, title)
                layers[name or title] = means[title]
        if name is None:
            views, shown = _views(found, "trained")
            rows[NOISE] = noise_like(views, shown, seed)
            drift = _drift(own, found)
    data_said = data_record(data, index, [failures[video] for video in sorted(failures)])
    return sealed(
        {
            **result_header("geometry", subject),
            "data": data_said,
            "seed": seed,
            "rows": rows,
            "cka": {"videos": len(chosen), **_likeness(layers)},
            "drift": drift,
            "notes": _notes(subject, rows),
        }
    )


def _chosen(total: int, most: int, seed: int) -> list[int]:
    if total <= most:
        return list(range(total))
    return sorted(np.random.default_rng(seed).permutation(total)[:most].tolist())


def _views(found: FeatureSet, title: str) -> tuple[Tensor, Tensor]:
    ok = found.ok[title]
    return found.features[title][ok], found.shown[ok]


def _row(found: FeatureSet, title: str) -> dict[str, float | int | None]:
    return geometry_of(*_views(found, title))


def _drift(subject: Subject, found: FeatureSet) -> dict[str, Any] | None:
    if subject.untrained is None:
        return None
    ok = found.ok["trained"] & found.ok["untrained"]
    ours, theirs = (_mean(found.features[title][ok], found.shown[ok]) for title in TITLES)
    return {
        "weights": weight_drift(subject.encoder, subject.untrained),
        "features": feature_drift(ours, theirs),
    }


def _mean(views: Tensor, shown: Tensor) -> Tensor:
    weight = shown.to(views.dtype)[..., None]
    return (views * weight).sum(1) / weight.sum(1)


def _likeness(layers: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """`layers`: of each encoder their names, and CKA of each with each; `start`: of the trained encoder's with those it began with;
    `encoders`: of the outputs."""
    inside = {
        name: {"names": list(own), "cka": cka_matrix([*own.values()], [*own.values()])}
        for name, own in layers.items()
    }
    outputs = [own[OUTPUT] for own in layers.values()]
    matrix = [cka_matrix([x], [y])[0][0] for x in outputs for y in outputs]
    count, names = len(outputs), list(layers)
    both = [[*layers[title].values()] for title in TITLES if title in layers]
    return {
        "layers": inside,
        "start": cka_matrix(*both) if len(both) == 2 else None,
        "encoders": {
            a: dict(zip(names, matrix[i * count : (i + 1) * count], strict=True)) for i, a in enumerate(names)
        },
    }


def _notes(subject: Subject, rows: dict[str, Any]) -> list[str]:
    own, notes = rows["trained"], []
    if own["videos"] < 2 * own["dimensions"]:
        notes.append(
            f"{counted(own['videos'], 'video')} for {counted(own['dimensions'], 'dimension')}: ranks cannot exceed the number of videos, and the spectrum falls faster "
            "than with many; compare with noise of this size"
        )
    if own["lidar"] is None and own["rankme"] is not None:
        notes.append(
            "alignment and LiDAR need two different clips of two videos: give --clips and --seconds or --stride"
        )
    if subject.untrained is None:
        notes.append("the encoder that this one started from is not kept beside it: no drift")
    for name, row in rows.items():
        if row["rankme"] is None:
            notes.append(f"{name}: the features of a video are zero, which have no direction: no numbers")
        if row["uniformity"] is not None and row["uniformity"] > -1e-6:
            notes.append(f"{name}: all videos have the same features up to length: collapsed")
    return notes
