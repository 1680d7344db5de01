"""What several kinds of results have in common, as types: what was measured with what, on which videos, and scores."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

Interval = tuple[float, float]


class Part(BaseModel):
    """A part of a result: unknown keys are mistakes, and numbers are finite."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


class Protocol(Part):
    """What makes numbers comparable, by dotted names beside these."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)
    task: str
    arithmetic: int
    hash: str = Field(pattern="^[0-9a-f]{16}$")


class Environment(Part):
    """Versions, platform and source revision."""

    vidssl: str
    git_commit: str | None
    python: str
    platform: str
    packages: dict[str, str]
    processes: int = 1


class Sampling(Part):
    """How videos were shown."""

    frames: int
    seconds: float | None
    stride: int | None
    clips_per_video: int
    crops: int
    size: int
    resize: str


class Reason(Part):
    """A file and what is the matter with it."""

    path: str
    reason: str


class Data(Part):
    """A set of videos, and those of them that are not what they should be."""

    path: str
    digest: str
    """of paths below the folder, and labels"""
    content: str
    """of paths, sizes and content"""
    videos: int
    groups: int | None = None
    failed: list[Reason]
    missing: list[str]
    unlabelled: list[str]
    remarks: list[str]
    fewer_clips: int


class Titled(Part):
    """What every file begins with."""

    schema_: str = Field(alias="schema", pattern=r"^[a-z-]+/\d+$")
    """task and version of this form"""
    task: str


class Named(Titled):
    """What every result begins with."""

    protocol: Protocol
    checkpoint: str
    """as the user named it"""
    environment: Environment


class Header(Named):
    """What results of encoders that see whole clips begin with."""

    loaded: str
    model: dict[str, Any]
    sampling: Sampling
    decoder: str
    random_weights: bool = False
    """The encoder was named without weights: what rows call trained is not."""
    published: dict[str, Any] | None = None
    """The protocol of others that was named, what was given instead, and what of it is not done here."""


class Setting(Part):
    """What a zero-shot score used."""

    videos: str
    names: str


class Score(Part):
    """Accuracies in [0, 1]; intervals of 95 %."""

    top1: float
    top1_interval: Interval | None = None
    interval_over: str | None = None
    correct: int | None = None
    total: int | None = None
    failed: int | None = None
    not_finite: int | None = None
    mean_class: float | None = None
    top5: float | None = None
    setting: Setting | None = None
    top1_std: float | None = None
    top1_draws: list[float] | None = None
    std: float | None = None
    top1_splits: list[float] | None = None
    confidence: float | None = None
    calibration_error: float | None = None


class Comparison(Part):
    """Two accuracies on the same videos."""

    to: str
    difference: float
    interval: Interval
    only_first: int
    only_second: int
    p: float
    seed: int


class Classes(Part):
    """The classes to choose from."""

    names: list[str]
    hash: str
    source: str | None = None
    texts: list[str] | None = None
    unknown: dict[str, int] | None = None
    unused: list[str] | None = None


class Answers(Part):
    """What was answered to each test video."""

    videos: list[str]
    groups: list[str | None] | None = None
    truth: list[int] | None = None
    """places in `classes`, behind their end for classes that cannot be answered"""
    answered: dict[str, list[int]] | None = None
    """by row of `scores`: places in `classes`, -1 for no answer"""
    right: dict[str, list[bool]] | None = None
    """by row of `scores`, where the answer is no class"""


class Pair(Part):
    """A video that is in both splits."""

    train: str
    val: str


class Splits(Header):
    """What results of two labelled sets have."""

    train: Data
    val: Data
    classes: Classes
    in_both_splits: list[Pair]
    look_alikes: list[Pair] | None = None
    """of other content, in which the same moves in the same places"""
    groups_in_both_splits: list[str] | None = None
    notes: list[str]
    scores: dict[str, Score]
    comparisons: dict[str, Comparison]
    answers: Answers | None = None


class Templates(Part):
    """Sentences with a place for the class."""

    list: tuple[str, ...]
    hash: str
    preset: str | None = None
    source: str | None = None
    """of the preset"""


class CutTexts(Part):
    """Texts that the tower saw only the beginning of."""

    context_length: int
    texts: list[str]
