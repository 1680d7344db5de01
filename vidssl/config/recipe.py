"""The typed schema of a recipe (configs/*.yaml): every key with its type, its default and what it means."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    model_validator,
)

from vidssl.config.data import DataConfig
from vidssl.config.section import BatchSize, Count, Fraction, NotNegative, Positive, Section, Seed


class ViewConfig(Section):
    """One kind of view cut from the decoded window; every draw is made once for a clip and held over its frames."""

    name: str = Field("global", description="a free word, for the log")
    count: Count = Field(2, description="views of this kind of each clip")
    frames: Count = Field(8, description="T, frames of a view")
    seconds: Positive | None = Field(None, description="temporal extent of the clip (exclusive with stride)")
    stride: Count | None = Field(None, description="frames between two frames of the clip")
    size: Count = Field(224, description="side in pixels")
    scale: tuple[Fraction, Fraction] = Field((0.4, 1.0), description="range of the crop's share of the area")
    ratio: tuple[Positive, Positive] = Field(
        (3 / 4, 4 / 3), description="range of the crop's width over its height"
    )
    flip: Fraction | None = Field(
        None, description="null: 0.5, and 0 where the names of classes or folders tell left from right"
    )
    jitter: tuple[float, float, float, float] = Field(
        (0.4, 0.4, 0.2, 0.1), description="strength of brightness, contrast, saturation, hue"
    )
    jitter_p: Fraction = Field(0.8, description="probability that colours are jittered")
    gray_p: Fraction = Field(0.2, description="probability that a clip is made grey")
    blur_p: Fraction = Field(0.5, description="probability that a clip is blurred")
    blur_sigma: tuple[Positive, Positive] = Field(
        (0.1, 2.0), description="range of the blur's standard deviation, in pixels"
    )
    solarize_p: Fraction = Field(0.0, description="probability that bright pixels are inverted")
    strong: Annotated[int, Field(ge=0)] = Field(0, description="operations of RandAugment on every clip")
    strength: Fraction = Field(0.3, description="of these operations")
    drop_p: Fraction = Field(0.0, description="probability that a frame is lost and the one before it stays")
    reverse_p: Fraction = Field(0.0, description="probability that the clip runs backwards")
    hide_p: Fraction = Field(
        0.0, description="probability that a number of kept rows is hidden in the whole view (data.features)"
    )
    teacher: bool = Field(True, description="whether the teacher sees this view (global views)")

    @model_validator(mode="after")
    def _one_extent(self) -> ViewConfig:
        if self.seconds is not None and self.stride is not None:
            raise ValueError("give seconds or stride, not both")
        if self.scale[0] > self.scale[1]:
            raise ValueError(f"scale {list(self.scale)} must be [smaller, larger]")
        return self


class ModelConfig(Section):
    """Arguments of :func:`vidssl.create_model`."""

    name: str = Field(
        "ViT-B-16", description="an open_clip model, timm/NAME, conv3d/small, …: `vidssl doctor --encoders`"
    )
    pretrained: str | None = Field(
        None, description="open_clip tag, checkpoint file, local-dir:, hf-hub:, or a run or export of ours"
    )
    temporal: str = Field(
        "divided", description="how it learns of time: divided, joint, adapter, convolutions, head or none"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="of the model, see docs/encoders.md")
    freeze: Literal["none", "projection", "all_but_temporal"] = Field(
        "none", description="projection: keep the map into the joint image-text space as it is"
    )


class TeacherConfig(Section):
    """Exponential moving average of the whole student; the momentum rises by a cosine to `final`.

    A step of momentum m forgets half of the past in ln 2 / (1 - m) steps: 173 for 0.996, 69 for 0.99. Keep the start's
    half-life below a twentieth of the steps, or the teacher hardly moves in a short run.
    """

    momentum: Fraction = Field(
        0.99,
        description="at the start; 1.0 keeps the teacher as it was: frozen, the encoder's starting weights",
    )
    final: Fraction = Field(1.0, description="at the end")
    token_drop: bool | None = Field(
        None,
        description="whether the teacher leaves out the tokens that the student does; null: unless it is frozen (momentum 1)",
    )

    @property
    def drops_tokens(self) -> bool:
        """Whether it leaves out what a student that drops tokens does: a frozen one gives the targets it was made for."""
        return self.momentum < 1 if self.token_drop is None else self.token_drop

    @model_validator(mode="after")
    def _rises(self) -> TeacherConfig:
        if self.momentum > self.final:
            raise ValueError(f"momentum {self.momentum:g} must not be above final {self.final:g}")
        return self


class TrainConfig(Section):
    """The loop."""

    batch_size: BatchSize = Field(
        64,
        description="clips in one optimiser step, over all processes; auto: as many as fit into memory, found when a run begins",
    )
    steps: Count | None = Field(None, description="optimiser steps (exclusive with epochs)")
    epochs: Positive | None = Field(None, description="passes over the videos (exclusive with steps)")
    accumulation: Count = Field(
        1,
        description="micro-batches the encoder works through; loss and gradient are those of the whole batch",
    )
    optimizer: Literal["adamw", "lars"] = Field(
        "adamw", description="lars: for batches of thousands, with rates above 1"
    )
    lr: Positive = Field(1e-3, description="learning rate after the warm-up; it falls by a cosine")
    pretrained_lr_scale: NotNegative = Field(
        0.1, description="factor on lr for weights that came from a checkpoint"
    )
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="factor on pretrained_lr_scale for every block further from the output, 0.65 to 1"
    )
    min_lr: NotNegative = Field(1e-6, description="learning rate at the end")
    warmup: Fraction = Field(0.05, description="share of the steps with a linearly rising learning rate")
    weight_decay: NotNegative = Field(0.04, description="of matrices; biases, norms and embeddings have none")
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.98), description="the first is the momentum of lars")
    eps: Positive = Field(1e-6, description="of adamw, under the root")
    clip_grad: Positive | None = Field(1.0, description="largest norm of the gradient; null: any")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where a GPU supports it"
    )
    threads: Count | None = Field(
        None,
        description="of a CPU, for each process; null: OMP_NUM_THREADS, or else those of the cores that are free",
    )
    compile: bool = Field(
        False,
        description="torch.compile of the blocks of student and teacher (the whole encoder, where it has none)",
    )
    shard: bool = Field(
        False,
        description="hold a part of weights, gradients, optimiser and teacher on each process (FSDP2); nothing on one process",
    )
    log_every: Count = Field(10, description="steps between two lines of the log")
    checkpoint_every: Count | None = Field(None, description="steps between checkpoints; null: ten in a run")
    step_deadline: Positive | None = Field(
        600.0,
        description="seconds after which a step that is still at work is named, with its phase and videos; null: never",
    )
    stop_on_collapse: Count | None = Field(
        None,
        description="end the run after so many logged steps in a row that warn of a collapse; null: only warn",
    )
    keep_checkpoints: Count = Field(2, description="the newest so many stay on disk")
    trackers: tuple[Literal["tensorboard", "wandb", "trackio", "mlflow"], ...] = Field(
        (), description="where else the log goes"
    )

    @model_validator(mode="after")
    def _one_length(self) -> TrainConfig:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give exactly one of steps and epochs (set the other to null)")
        return self


def steps_of(epochs: float, videos: int, repeats: int, batch_size: int) -> int:
    """Optimiser steps of so many passes over the videos, `repeats` clips of each; batches are whole."""
    return max(round(epochs * (videos * repeats // batch_size)), 1)


class EvaluateConfig(Section):
    """Evaluation while training, on labelled videos."""

    train: str = Field(description="labelled videos whose features are the neighbours; few are enough")
    val: str = Field(description="labelled videos that are classified")
    every: Count = Field(
        description="steps from one evaluation to the next; the last step is one in any case"
    )
    protocols: tuple[Literal["knn", "zero_shot"], ...] = Field(
        ("knn",), description="zero_shot needs an encoder with a text tower"
    )
    metric: Literal["knn", "zero_shot"] = Field("knn", description="whose best encoder is kept, in best/")
    k: Count = Field(20, description="neighbours")
    clips: Count = Field(1, description="clips of a video, averaged")

    @model_validator(mode="after")
    def _metric_is_measured(self) -> EvaluateConfig:
        if self.metric not in self.protocols:
            raise ValueError(f"metric {self.metric} is not among protocols ({', '.join(self.protocols)})")
        return self


# Temporal modes that need no more of a frame than what was kept of it, and what of a view is not decided by then.
_BEHIND = ("head", "convolutions")
OF_TIME = frozenset(
    ("name", "count", "frames", "seconds", "stride", "size", "drop_p", "reverse_p", "hide_p", "teacher")
)


class Config(Section):
    """A recipe."""

    output: str = Field(description="folder of the run; created, or resumed with --resume")
    seed: Seed = Field(0, description="of all that is drawn")
    data: DataConfig = Field(description="where the videos are and how they are decoded")
    views: tuple[ViewConfig, ...] = Field((ViewConfig(),), description="what is cut from a decoded window")
    model: ModelConfig = Field(ModelConfig(), description="the encoder")
    objective: dict[str, dict[str, Any]] = Field(
        default={"hsic": {}}, description="what is learned from: name -> options; several are added"
    )
    teacher: TeacherConfig = Field(TeacherConfig(), description="the moving average of the student")
    train: TrainConfig = Field(description="the loop")
    evaluate: EvaluateConfig | None = Field(None, description="evaluation while training; null: none")

    @model_validator(mode="after")
    def _enough_views(self) -> Config:
        if sum(view.count for view in self.views) < 2:
            raise ValueError("views: at least two views of every video are needed")
        if not any(view.teacher for view in self.views):
            raise ValueError("views: at least one view must have teacher: true")
        shown = [view.teacher for view in self.views]
        if shown != sorted(shown, reverse=True):
            raise ValueError("views: those with teacher: true come before those without")
        if not self.objective:
            raise ValueError("objective: at least one objective is needed")
        return self

    @model_validator(mode="after")
    def _features_are_of_frames(self) -> Config:
        if self.data.features is None:
            for number, view in enumerate(self.views):
                if view.hide_p:
                    raise ValueError(
                        f"views.{number}.hide_p: {view.hide_p}: has an effect on data.features only; to hide parts of frames from an "
                        "image transformer there is model.options.token_drop"
                    )
            return self
        model = self.model
        if model.temporal not in _BEHIND or model.freeze != "all_but_temporal":
            raise ValueError(
                f"data.features: trains what stands behind a frozen image model: model.temporal {' or '.join(_BEHIND)} (not "
                f"{model.temporal}) and model.freeze all_but_temporal (not {model.freeze})"
            )
        for number, view in enumerate(self.views):
            for name, field in ViewConfig.model_fields.items():
                if name not in OF_TIME and getattr(view, name) != field.default:
                    raise ValueError(
                        f"views.{number}.{name}: has no effect on data.features; frames were cropped and coloured when they "
                        "were extracted"
                    )
        return self
