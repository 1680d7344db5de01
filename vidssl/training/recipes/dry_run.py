"""A dry run: everything a recipe needs is built, one step is made on two videos and thrown away, and its cost is told."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from vidssl.config import Config
from vidssl.config.recipe import steps_of
from vidssl.config.section import AUTO
from vidssl.distributed import on_first
from vidssl.errors import TooFewRows, VidsslError
from vidssl.training.accelerator import make_accelerator
from vidssl.training.folder import claim_folder
from vidssl.training.lock import FolderLock
from vidssl.training.loop import train_step
from vidssl.training.memory import copy_bytes, state_bytes
from vidssl.training.report import Report
from vidssl.training.setup import Run, set_up, warm_start
from vidssl.training.sources.videos import check_evaluation

CLIPS = 2
MOST = 64  # videos of a trial, where the batch is not known yet
REPEATS = 2  # of each at most: 32 of data.repeats would be a batch of 64, and need its memory
T = TypeVar("T")
# Names that stand for a folder or a repository of weights, which are built without them when told so.
_OF_WEIGHTS = ("local-dir:", "hf-hub:")


def dry_run(config: Config, random_weights: bool = False) -> dict[str, Any]:
    """Build what the recipe says, make two steps on two videos (or more, see `on_enough`), and measure the second one.

    Nothing of it stays on disk. Costs of the whole run are reckoned from it: memory is exact for weights, gradients,
    teacher and optimiser, and activations grow with the clips; time is that of two clips a step (two of each of two videos where
    `data.repeats` asks for several), without workers, so an upper bound where more clips at a time are faster for each.

    Args:
        config: a validated recipe.
        random_weights: build the encoder at its full size without its weights, which are then not downloaded.

    Returns:
        JSON-able: `videos`, `steps`, `views` (shapes), `parameters`, `bytes`, `checkpoint` (bytes in main memory while one
        is being written), `seconds`, `loss`, `device`, `notes`, and `evaluation` (None, or its protocols, how many times, and of how many videos), which is not made.

    Raises:
        VidsslError: for anything that `vidssl.training.pretrain` would refuse; for several processes.
    """
    accelerator = make_accelerator(config)
    if accelerator.num_processes > 1:
        raise VidsslError(f"--dry-run: {accelerator.num_processes} processes; run it in one")

    def tried(videos: int) -> dict[str, Any]:
        with trial(config, accelerator, random_weights, videos) as run:
            return _cost(run, config, random_weights)

    return on_enough(config, tried)


def on_enough(config: Config, tried: Callable[[int], T]) -> T:
    """What `tried` makes of two videos on every process, or of as many more as the losses need.

    Raises:
        VidsslError: as `tried`; for a loss that has too few rows in a whole batch of the recipe.
    """
    videos, size = CLIPS, config.train.batch_size
    most = MOST if size == AUTO else size // config.data.repeats
    while True:
        try:
            return tried(videos)
        except TooFewRows:
            if 2 * videos > most:
                raise
            videos *= 2


@contextmanager
def trial(
    config: Config, accelerator: Accelerator, random_weights: bool = False, videos: int = CLIPS
) -> Iterator[Run]:
    """A run of what the recipe says, of two steps of two (or `videos`) videos on every process, that leaves nothing behind.

    Raises:
        VidsslError: for anything that `vidssl.training.pretrain` would refuse.
    """
    claim_folder(Path(config.output), resume=False, lock=FolderLock(Path(config.output)))  # changes nothing
    place = Path(on_first(tempfile.mkdtemp))
    try:
        shortened = _shortened(config, place / "run", random_weights, videos * accelerator.num_processes)
        with closing(set_up(shortened, accelerator)) as run:
            yield run
    finally:
        on_first(lambda: shutil.rmtree(place, ignore_errors=True))


def _shortened(config: Config, output: Path, random_weights: bool, videos: int) -> Config:
    repeats = min(config.data.repeats, REPEATS)
    clips = videos * repeats
    changes: dict[str, Any] = {
        "output": str(output),
        "data": config.data.model_copy(update={"check": False, "workers": 0, "repeats": repeats}),
        "train": config.train.model_copy(
            update={"batch_size": clips, "accumulation": 1, "steps": 2, "epochs": None, "trackers": ()}
        ),
    }
    if random_weights and config.data.features is None:
        # Which is for weights that came from elsewhere, and refused without them.
        changes["train"] = changes["train"].model_copy(update={"layer_decay": 1.0})
        model = config.model
        options = model.options | ({"load_weights": False} if model.name.startswith(_OF_WEIGHTS) else {})
        changes["model"] = model.model_copy(update={"pretrained": None, "options": options})
    return config.model_copy(update=changes)


class Measured(NamedTuple):
    """The second step of a trial, of `clips` clips on this process.

    Attributes:
        fixed: bytes of weights, gradients, optimiser and teacher. saved: bytes of activations.
        views: as they were rendered. notes: what the step had to say.
        copied: bytes of the copy that a checkpoint is written from, in main memory.
    """

    clips: int
    seconds: float
    loss: float
    fixed: dict[str, int]
    saved: int
    views: list[Tensor]
    notes: list[str]
    copied: int = 0

    def activations(self, clips: int, accumulation: int) -> int:
        """Bytes of so many clips. In pieces, one piece's are held at a time, beside the views of all."""
        at_once = -(-clips // accumulation)
        return (
            self.saved * at_once + sum(view.nbytes for view in self.views) * (clips - at_once)
        ) // self.clips


def measure(run: Run) -> Measured:
    """Make the two steps of a trial. Every process has to call this."""
    warm_start(run)
    saved, notes = Saved(), list[str]()
    quiet = cast(Report, _Quiet(notes))  # of a report, a step asks no more than this
    seconds, loss = 0.0, torch.tensor(torch.nan)
    with closing(run.batches()) as batches:
        for number, (batch, waited) in enumerate(islice(batches, 2)):
            started = time.perf_counter()
            with torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack):
                loss = train_step(run, batch, quiet)["loss"]
            if run.accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            saved.clear(keep=number > 0)
            seconds = waited + time.perf_counter() - started
        views = run.render(batch)
    if not torch.isfinite(loss):
        notes.append(f"the loss of {len(views[0])} clips is {loss.item()}")
    return Measured(
        len(views[0]), seconds, loss.item(), state_bytes(run), saved.bytes, views, notes, copy_bytes(run)
    )


def _cost(run: Run, config: Config, random_weights: bool) -> dict[str, Any]:
    kept = config.data.features is not None
    said = (
        "not for the model of data.features, whose own were read" if kept else "none were read or downloaded"
    )
    step = measure(run)
    notes = [*([f"random weights: {said}"] if random_weights else []), *step.notes]
    if step.clips > CLIPS * min(config.data.repeats, REPEATS):
        notes.append(f"measured on {step.clips} clips: a loss needs more rows than two videos have")
    size, videos, repeats = config.train.batch_size, len(run.dataset), config.data.repeats
    steps = config.train.steps or steps_of(config.train.epochs or 0.0, videos, repeats, size)
    if videos * repeats < size:
        notes.append(f"train.batch_size={size}: more than the {videos} videos there are")
    activations = step.activations(size, config.train.accumulation)
    seconds = step.seconds / step.clips
    return {
        "videos": videos,
        "steps": steps,
        "views": [[size, *view.shape[1:]] for view in step.views],
        "parameters": {
            "encoder": _count(run.student.encoder),
            "heads": _count(run.student.heads),
            "trained": sum(p.numel() for p in run.student.parameters() if p.requires_grad),
        },
        "bytes": {**step.fixed, "activations": activations, "step": sum(step.fixed.values()) + activations},
        "checkpoint": step.copied,
        "seconds": {"clip": seconds, "step": seconds * size, "run": seconds * size * steps},
        "loss": step.loss,
        "evaluation": _evaluation(run, config, steps),
        "device": str(run.accelerator.device),
        "notes": notes,
    }


def _evaluation(run: Run, config: Config, steps: int) -> dict[str, Any] | None:
    wanted = config.evaluate
    if wanted is None:
        return None
    videos = check_evaluation(config, run.student.encoder)
    return {"protocols": list(wanted.protocols), "times": -(-steps // wanted.every), "videos": videos}


class Saved:
    """Counts the bytes that a forward pass keeps for the backward pass, each storage once."""

    def __init__(self) -> None:
        self.bytes = 0
        self._seen: set[int] = set()

    def pack(self, x: Tensor) -> Tensor:
        if x.layout is not torch.strided:  # no storage of its own to count
            return x
        storage = x.untyped_storage()
        if not isinstance(x, nn.Parameter) and storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return x

    def unpack(self, x: Tensor) -> Tensor:
        return x

    def clear(self, keep: bool) -> None:
        self._seen.clear()
        if not keep:
            self.bytes = 0


class _Quiet:
    """Takes what a step would say in its report."""

    def __init__(self, notes: list[str]) -> None:
        self.say = notes.append

    def is_due(self, step: int) -> bool:
        return True


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
