"""Setting up a run: folder, videos, modules. Everything that can be wrong is found here, before step one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
import yaml

from vidssl import distributed
from vidssl.concepts.space_files import space_builder
from vidssl.config import Config, ViewConfig
from vidssl.data.manifest.check import check_index, require_readable_classes
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo, write_quarantine
from vidssl.data.views.spec import ViewSpec
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.files import newest_checkpoint, write_json, write_text
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.models.factory import create_model
from vidssl.models.student import Student
from vidssl.objectives.composite import Composite, build_objectives
from vidssl.runs import CONFIG, INITIAL
from vidssl.training.optim import freeze_parameters

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")
QUARANTINE = "quarantine.csv"
OURS = "made_by_vidssl"  # in accelerate's state of the process


def make_accelerator(precision: str, trackers: Sequence[str]) -> Accelerator:
    """accelerate's view of this process; one process may train in one precision after another.

    Accelerate keeps its state for the life of the process and refuses another precision. The state of an earlier run is
    let go; that of an accelerator which somebody else made is not touched.

    Raises:
        VidsslError: when somebody else's accelerator has another precision.
    """
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    fresh = not AcceleratorState._shared_state
    if not fresh and (has := AcceleratorState().mixed_precision) != precision:
        if not AcceleratorState._shared_state.get(OURS):
            raise VidsslError(
                f"train.precision: this process has an Accelerator with mixed_precision={has!r}, and the recipe needs "
                f"{precision!r}; train in a process of its own or in that precision"
            )
        AcceleratorState._reset_state()
        fresh = True
    accelerator = Accelerator(mixed_precision=precision, log_with=list(trackers) or None)
    if fresh:
        AcceleratorState._shared_state[OURS] = True
    return accelerator


def on_main(accelerator: Accelerator, function: Callable[[], T]) -> T:
    """Run on the first process and hand the result, or the user's error, to all of them."""
    from accelerate.utils import broadcast_object_list

    box: list[T | VidsslError | None] = [None]
    if accelerator.is_main_process:
        try:
            box[0] = function()
        except VidsslError as error:
            box[0] = error
    broadcast_object_list(box)
    result = box[0]
    if isinstance(result, VidsslError):
        raise result
    return result  # type: ignore[return-value]


def prepare_folder(config: Config, resume: bool) -> Path | None:
    """Claim the run folder; returns the checkpoint to resume from.

    Raises:
        VidsslError: when the folder already holds a run and `resume` is False, or is a file.
    """
    folder = Path(config.output)
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"output: {folder}: is a file; a folder is needed")
    if folder.is_dir() and any(folder.iterdir()):
        if not resume:
            raise VidsslError(
                f"output: {folder}: is not empty; continue it with --resume or choose another folder"
            )
        return newest_checkpoint(folder)
    return None


def begin(config: Config, bad: Sequence[FailedVideo], encoder: VideoEncoder, device: torch.device) -> None:
    """Make the run folder: the resolved recipe, versions and device, the unreadable videos, and the untrained encoder,
    which is kept because every trained number is reported beside its. Harmless when the run is resumed."""
    folder = Path(config.output)
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(folder / CONFIG, text)
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    record = {**environment(), "processes": distributed.world_size(), "device": hardware}
    write_json(folder / "environment.json", record)
    if not (folder / INITIAL).is_dir():
        if bad:
            write_quarantine(folder / QUARANTINE, bad)
        save_encoder(encoder, folder / INITIAL)


def read_videos(config: Config) -> tuple[VideoIndex, tuple[FailedVideo, ...]]:
    """The readable training videos, and the others with the reason."""
    index = VideoIndex.read(config.data.train)
    if not config.data.check:
        return index, ()
    report = check_index(index, workers=max(config.data.workers, 1))
    require_readable_classes(report, allow_empty_classes=config.data.allow_empty_classes)
    return report.good, report.bad


def view_specs(views: tuple[ViewConfig, ...]) -> tuple[ViewSpec, ...]:
    """The recipe's views as the data floor's own type."""
    return tuple(ViewSpec(**view.model_dump(exclude={"teacher"})) for view in views)


def build_student(config: Config) -> tuple[Student, Composite]:
    """The encoder with its pretrained weights, the objectives and their heads; the same on every process."""
    torch.manual_seed(config.seed)
    encoder = create_model(
        config.model.name, config.model.pretrained, temporal=config.model.temporal, **config.model.options
    )
    objective, heads = build_objectives(config.objective, encoder.embed_dim, space_builder(encoder.text))
    encoder.spec["sampling"] = _sampling(config)
    student = Student(encoder, heads, micro_batches=config.train.accumulation)
    freeze_parameters(student, config.model.freeze)
    if config.train.compile:
        encoder.compile()
    return student, objective


def _sampling(config: Config) -> dict[str, Any]:
    """How the first view is cut; evaluation takes it as its default."""
    view = config.views[0]
    return {
        "frames": view.frames,
        "seconds": view.seconds or config.data.window_seconds,
        "stride": view.stride,
        "size": view.size,
    }
