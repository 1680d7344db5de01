"""The form of each kind of result, as types, by the first word of its ``schema``."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from vidssl.evaluation.results.analyses import (
    Disentangle,
    Dynamics,
    Geometry,
    PrincipalComponents,
    Temporal,
    Track,
)
from vidssl.evaluation.results.parts import (
    Answers,
    Classes,
    Comparison,
    CutTexts,
    Data,
    Header,
    Interval,
    Part,
    Protocol,
    Score,
    Splits,
    Templates,
    Titled,
)


class ZeroShot(Header):
    """Classes named by texts."""

    data: Data
    classes: Classes
    texts: str
    pooling: str = "unit"
    cut_texts: CutTexts
    templates: Templates
    names: dict[str, Any]
    notes: list[str]
    scores: dict[str, Score]
    comparisons: dict[str, Comparison]
    answers: Answers | None = None


class LinearProbe(Splits):
    """A linear classifier on frozen features."""

    seed: int
    head: str
    select: str
    feature: str
    l2: dict[str, float] | None = None
    l2_grid: list[float] | None = None
    sgd: dict[str, dict[str, float]] | None = None
    rate_grid: list[float] | None = None
    decay_grid: list[float] | None = None
    groups_kept_together: int | None = None
    shots: list[int] | None = None
    draws: int | None = None


class NearestNeighbours(Splits):
    """Votes of the nearest training videos."""

    k: list[int]
    temperature: float


class AttentiveProbe(Splits):
    """Heads that look at all tokens of frozen features."""

    tokens: dict[str, Any]
    blocks: int
    epochs: int
    probe_batch_size: int
    seed: int
    select: str
    chosen: dict[str, dict[str, float]]
    rate_grid: list[float]
    decay_grid: list[float]


class Finetune(Splits):
    """The whole encoder tuned on labels."""

    tuning: dict[str, Any]
    tuned_on: int
    losses: dict[str, list[float]]
    saved: str | None = None


class Retrieval(Header):
    """Videos found by videos or texts."""

    kind: str
    feature: str
    gallery: str | None = None
    val: Data | None = None
    train: Data | None = None
    data: Data | None = None
    in_both_splits: list[dict[str, str]] | None = None
    look_alikes: list[dict[str, str]] | None = None
    classes: Classes | None = None
    captions: dict[str, Any] | None = None
    cut_texts: CutTexts | None = None
    notes: list[str]
    scores: dict[str, dict[str, float | int | Interval | None]]
    comparisons: dict[str, Comparison]
    answers: Answers | None = None


class OverSplits(Header):
    """A task over several official splits."""

    splits: list[dict[str, Any]]
    """results of each, without `environment`"""
    scores: dict[str, Score]


class Row(Part):
    """A score and what it is to be compared with."""

    data: str
    protocol: str
    protocol_hash: str
    trained: dict[str, Any]
    untrained: dict[str, Any] | None
    motion_energy: dict[str, Any] | None = Field(alias="motion energy")
    chance: dict[str, Any] | None


class NotRun(Part):
    """A protocol that could not be run on a data set."""

    data: str
    protocol: str
    why: str


class EvaluateAll(Titled):
    """Every protocol on a list of data sets."""

    checkpoint: str
    rows: list[Row]
    not_run: list[NotRun]


class SideBySide(Titled):
    """Results side by side."""

    results: list[dict[str, Any]]
    protocols: dict[str, Protocol]
    not_comparable: list[dict[str, Any]]
    comparisons: list[dict[str, Any]]


class Classify(Header):
    """Which of some actions a video shows."""

    video: str
    content: str
    classes: Classes
    templates: Templates
    cut_texts: CutTexts
    probabilities: dict[str, float]
    matches: dict[str, float] | None = None
    over_time: list[dict[str, Any]] | None = None


class Extract(Header):
    """Whose features lie in the file beside it."""

    data: Data
    videos: list[dict[str, Any]]
    pooling: str | None = None
    shape: list[int] | None = None
    patches: dict[str, Any] | None = None
    rows: dict[str, Any] | None = None


RESULTS: dict[str, type[Part]] = {
    "zero-shot": ZeroShot,
    "linear-probe": LinearProbe,
    "knn": NearestNeighbours,
    "attentive-probe": AttentiveProbe,
    "finetune": Finetune,
    "retrieval": Retrieval,
    "evaluate-all": EvaluateAll,
    "compare": SideBySide,
    "classify": Classify,
    "extract": Extract,
    "pca": PrincipalComponents,
    "temporal": Temporal,
    "geometry": Geometry,
    "dynamics": Dynamics,
    "disentangle": Disentangle,
    "track": Track,
}
