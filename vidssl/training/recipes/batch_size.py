"""`train.batch_size: auto`: the largest batch that fits into memory, found before a run begins and recorded as a number."""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator

from vidssl.config import Config, load_config
from vidssl.config.section import AUTO
from vidssl.distributed import gather_objects
from vidssl.errors import VidsslError
from vidssl.runs import CONFIG
from vidssl.training.accelerator import make_accelerator
from vidssl.training.memory import free_memory
from vidssl.training.recipes.dry_run import Measured, measure, on_enough, trial

# Of the free memory: the rest is for what a trial of two clips does not tell, such as what grows with the square of the batch.
SHARE = {"cpu": 0.6, "cuda": 0.8}
MOST_ON_CPU = 256  # there a batch costs time in proportion, and memory is shared with everything else


def with_batch_size(config: Config, resume: bool = False) -> Config:
    """The recipe with a number in place of `train.batch_size: auto`; any other as it is.

    A run that is resumed keeps the number that its folder records. Otherwise two steps on two videos are made, as in a dry
    run, and the number is the largest that fits by their reckoning, a power of two times what processes and
    `data.repeats` ask for. With several processes it is the one that fits on all of them.

    Args:
        resume: whether a run in `config.output` is to be continued.

    Raises:
        VidsslError: when nothing fits, and for anything that `vidssl.training.pretrain` would refuse. Nothing is on disk then.
    """
    if config.train.batch_size != AUTO:
        return config
    recorded = Path(config.output) / CONFIG
    if resume and recorded.is_file():
        return _with(config, load_config(recorded).train.batch_size)
    accelerator = make_accelerator(config)
    memory = free_memory(accelerator.device)

    def tried(videos: int) -> tuple[Measured, int]:
        with trial(config, accelerator, videos=videos) as run:
            return measure(run), len(run.dataset)

    step, videos = on_enough(config, tried)
    size, said = _largest(config, accelerator, step, memory, videos)
    accelerator.print(said)
    return _with(config, size)


def _largest(
    config: Config, accelerator: Accelerator, step: Measured, memory: int, videos: int
) -> tuple[int, str]:
    train, device, processes = config.train, accelerator.device.type, accelerator.num_processes
    allowed = int(memory * SHARE.get(device, SHARE["cuda"]))
    if device == "cpu":
        allowed //= processes  # which share it
    fixed = sum(step.fixed.values()) + (step.fixed["gradients"] if processes > 1 else 0)  # and buckets of DDP
    fixed += step.copied if device == "cpu" else 0  # while a checkpoint is being written
    unit = processes * config.data.repeats
    most = min(
        videos * config.data.repeats,
        MOST_ON_CPU * processes if device == "cpu" else videos * config.data.repeats,
    )

    def needed(size: int) -> int:
        return fixed + step.activations(-(-size // processes), train.accumulation)

    size = max(unit, 2)
    while 2 * size <= most and needed(2 * size) <= allowed:
        size *= 2
    size = min(gather_objects(size))
    if max(gather_objects(needed(size) - allowed)) > 0:
        raise VidsslError(
            f"train.batch_size=auto: {size} clips need {needed(size) / 2**20:,.0f} MiB, and {allowed / 2**20:,.0f} MiB may be used on "
            f"{accelerator.device}; try train.accumulation=2, model.options.activation_checkpointing=true, or fewer or smaller views"
        )
    scale = "in proportion to the batch" if train.optimizer == "lars" else "with the square root of the batch"
    return size, (
        f"train.batch_size=auto: {size}, by reckoning {needed(size) / 2**20:,.0f} of {allowed / 2**20:,.0f} MiB that may be used on "
        f"{accelerator.device}; train.lr={train.lr:g} stays: if it was chosen for another batch, let it grow {scale}"
    )


def _with(config: Config, size: int) -> Config:
    return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})
