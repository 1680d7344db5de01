"""The section `data` of a recipe: where the videos are, or the features that were kept of them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from vidssl.config.section import Count, Positive, Section


class CacheConfig(Section):
    """Where the frames of a video are kept once it was decoded, so that later epochs decode nothing."""

    form: Literal["none", "memory", "raw", "jpeg"] = Field(
        "none", description="memory: of every decoding process; raw or jpeg: in files of `folder`"
    )
    folder: str | None = Field(None, description="on a local disk; runs may share it")
    gigabytes: Positive = Field(100.0, description="the most that is kept; what does not fit is decoded")
    fps: Positive | None = Field(None, description="frames a second that are kept at most; null: all")

    @model_validator(mode="after")
    def _has_a_place(self) -> CacheConfig:
        if (self.folder is not None) != (self.form in ("raw", "jpeg")):
            raise ValueError("folder belongs to form raw or jpeg, which need it")
        return self


class TrainingSet(Section):
    """One of several sets of videos."""

    path: str = Field(description="folder of videos (train/<class>/<file>) or a list")
    weight: Positive | None = Field(
        None, description="of its share of the clips, in any unit; null: as many as it has videos"
    )


def _as_sets(value: Any) -> Any:
    if value is None:
        return ()
    sets = value if isinstance(value, list | tuple) else [value]
    return [{"path": one} if isinstance(one, str) else one for one in sets]


class DataConfig(Section):
    """Where the videos are and how a window of each is decoded."""

    features: str | None = Field(
        None,
        description="file or folder of kept features (`vidssl extract --draws`) to train a temporal head on, instead of train",
    )
    train: Annotated[tuple[TrainingSet, ...], BeforeValidator(_as_sets)] = Field(
        description="folder of videos (train/<class>/<file>) or a list; or several, [{path: …, weight: …}, …]"
    )
    missing: Literal["error", "skip"] = Field("error", description="listed videos that do not exist")
    window_seconds: Positive | None = Field(
        4.0, description="length of the decoded window; null: whole video"
    )
    decode_size: Count = Field(256, description="longest allowed short side (pixels) of the decoded frames")
    decoder: Literal["auto", "decord", "pyav", "torchcodec"] = Field(
        "auto", description="auto: PyAV, unless `vidssl doctor --benchmark` found a faster one here"
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        2, description="decoding processes for each training process"
    )
    repeats: Count = Field(
        1, description="clips of a video in a batch, for one opening of its file; counted in train.batch_size"
    )
    cache: CacheConfig = Field(CacheConfig(), description="frames that are kept after a video was decoded")
    max_attempts: Count = Field(10, description="substitutes tried for an unreadable video before giving up")
    check: bool = Field(True, description="open every video once before training (cached by size and time)")
    allow_empty_classes: bool = Field(False, description="go on when a class folder has no readable video")

    @model_validator(mode="before")
    @classmethod
    def _features_are_enough(cls, raw: Any) -> Any:
        return {"train": (), **raw} if isinstance(raw, dict) and raw.get("features") is not None else raw

    @field_validator("train")
    @classmethod
    def _one_source(cls, sets: tuple[TrainingSet, ...], info: ValidationInfo) -> tuple[TrainingSet, ...]:
        features = info.data.get("features")
        if bool(sets) == (features is not None):
            raise ValueError(
                f"together with data.features={features}; give one of them"
                if sets
                else "at least one set is needed"
            )
        return sets

    @model_validator(mode="after")
    def _all_weights_or_none(self) -> DataConfig:
        if len({one.weight is None for one in self.train}) > 1:
            raise ValueError("train: give every set a weight, or none of them")
        return self

    @field_serializer("train")
    def _one_set_as_its_path(self, train: tuple[TrainingSet, ...]) -> Any:
        if not train:
            return []
        [path, *others] = [one.path for one in train]
        return path if not others and train[0].weight is None else [one.model_dump() for one in train]
