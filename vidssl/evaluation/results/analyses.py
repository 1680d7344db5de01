"""The form of results that look into an encoder rather than rank it by labels."""

from __future__ import annotations

from typing import Any

from vidssl.evaluation.results.parts import (
    Answers,
    Classes,
    Comparison,
    Data,
    Header,
    Interval,
    Named,
    Part,
    Reason,
    Score,
)


class PrincipalComponents(Named):
    """A video of colours."""

    video: str
    content: str
    patches: dict[str, Any]
    frames: int
    frame_size: tuple[int, int]
    variance_shares: list[float]


class Temporal(Header):
    """What an encoder knows of time."""

    data: Data
    classes: Classes | None = None
    answers: Answers | None = None
    seed: int
    folds: int | None
    fitted_on: int | None
    penalty: float
    notes: list[str]
    scores: dict[str, Score]
    comparisons: dict[str, Comparison]
    gaps: dict[str, dict[str, Comparison]]
    figures: list[str] | None = None


class Layers(Part):
    """The layers of an encoder, and CKA of each with each."""

    names: list[str]
    cka: list[list[float | None]]


class Likeness(Part):
    """Linear CKA on so many videos: of layers, of those of the start, of outputs of encoders."""

    videos: int
    layers: dict[str, Layers]
    start: list[list[float | None]] | None
    encoders: dict[str, dict[str, float | None]]


class Geometry(Header):
    """Features measured without labels."""

    data: Data
    seed: int
    rows: dict[str, dict[str, float | int | None]]
    cka: Likeness
    drift: dict[str, dict[str, Any]] | None
    notes: list[str]
    figures: list[str] | None = None


class Dynamics(Named):
    """What a model of motion learned."""

    objective: str
    weights: str
    model: dict[str, Any]
    encoder: dict[str, Any]
    sampling: dict[str, Any]
    decoder: str
    data: Data
    seed: int
    notes: list[str]
    calibration: dict[str, Any]
    whiteness: dict[str, Any] | None
    consistency: dict[str, Any] | None
    forecast: dict[str, Any]
    untrained: dict[str, Any]
    eigenvalues: list[dict[str, float | None]] | None
    figures: list[str]


class FactorClips(Part):
    """Clips whose factors are known, rendered or read."""

    factors_digest: str
    videos: int
    failed: list[Reason]
    remarks: list[str]
    scene: str | None = None
    seed: int | None = None
    rendered_side: int | None = None
    path: str | None = None
    digest: str | None = None
    content: str | None = None
    missing: list[str] | None = None
    unlabelled: list[str] | None = None
    fewer_clips: int | None = None


class Disentangle(Header):
    """What single dimensions hold of the factors of a video."""

    data: FactorClips
    clips: int
    dimensions: int
    bins: int
    seed: int
    factors: dict[str, dict[str, int | str]]
    rows: dict[str, dict[str, Any]]
    would_say_if: dict[str, dict[str, Any]]
    other_scores: dict[str, dict[str, float | None]]
    slow_clips: int | None
    information: dict[str, Any]
    notes: list[str]
    figures: list[str] | None = None


class Sequences(Part):
    """A set of sequences with what is not in the numbers."""

    path: str
    sequences: int
    scored: int
    frames: int
    digest: str
    remarks: list[Reason]
    unscored: list[Reason]
    lacking: list[Reason]
    failed: list[Reason]


class TrackRow(Part):
    """Scores of a way to track."""

    mean: dict[str, float]
    interval: dict[str, Interval]
    objects: int
    sequences: dict[str, dict[str, float]]
    not_finite: list[str]


class Track(Named):
    """Objects followed without training."""

    loaded: str
    model: dict[str, Any]
    settings: dict[str, Any]
    data: Sequences
    metrics: list[str]
    counts: list[str]
    seed: int
    scores: dict[str, TrackRow]
    comparisons: dict[str, dict[str, Any]]
    notes: list[str]
    figures: list[str]
