"""accelerate's part in a run: processes, device, precision and trackers; what it can be told that would change the numbers
is refused."""

from __future__ import annotations

import os

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedType, LoggerType, ProjectConfiguration

from vidssl.config import Config, TrainConfig
from vidssl.errors import VidsslError
from vidssl.launching import asked_for_cpu

OURS = "made_by_vidssl"  # in accelerate's state of the process
# By what `accelerate launch` asks for what cannot train yet, and its name.
UNSUPPORTED = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "parallelism other than that of data",
}
# What it can ask of FSDP2 beside, and what there is instead.
FSDP_OPTIONS = {
    "FSDP_OFFLOAD_PARAMS": "leave it out",
    "FSDP_ACTIVATION_CHECKPOINTING": "set model.options.activation_checkpointing=true",
}
SHARDED = {DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM}
INSTALL = {"tensorboard": '"vidssl[tensorboard]"', "wandb": '"vidssl[wandb]"'}


def as_launched(config: Config) -> Config:
    """The recipe with `train.shard` where `accelerate launch` was told to use FSDP2, which this package applies itself (see
    `vidssl.training.sharding`): accelerate then hears nothing of it.

    Raises:
        VidsslError: for FSDP's first version, or options of it that would have no effect.
    """
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() not in ("true", "1"):
        return config
    if os.environ.get("FSDP_VERSION", "1") != "2":
        raise VidsslError("accelerate: FSDP 1 is not supported; set fsdp_version: 2 (or train.shard=true)")
    for variable, instead in FSDP_OPTIONS.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise VidsslError(f"accelerate: {variable.lower()} is not supported; {instead}")
    del os.environ["ACCELERATE_USE_FSDP"]
    return config.model_copy(update={"train": config.train.model_copy(update={"shard": True})})


def make_accelerator(config: Config) -> Accelerator:
    """accelerate's view of this process; one process may train in one precision after another.

    Accelerate keeps its state for the life of the process and refuses another precision. The state of an earlier run is
    let go; that of an accelerator which somebody else made is not touched. Nothing is written.

    Raises:
        VidsslError: when somebody else's accelerator has another precision, a tracker is not installed, or accelerate was
            launched with what is not supported.
    """
    train = config.train
    for variable, name in UNSUPPORTED.items():
        if os.environ.get(variable, "false").lower() in ("true", "1"):
            raise _unsupported(name)
    for tracker in train.trackers:
        if LoggerType(tracker) not in get_available_trackers():
            package = INSTALL.get(tracker, tracker)
            raise VidsslError(f"train.trackers: {tracker} is not installed; pip install {package}")
    precision, shared = mixed_precision(train), AcceleratorState._shared_state
    ours = not shared or OURS in shared
    if shared and (has := AcceleratorState().mixed_precision) != precision:
        if not ours:
            raise VidsslError(
                f"train.precision: this process has an Accelerator with mixed_precision={has!r}, and the recipe needs "
                f"{precision!r}; train in a process of its own or in that precision"
            )
        AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=precision,
        log_with=list(train.trackers) or None,
        # TensorBoard writes into a folder of its own below.
        project_config=ProjectConfiguration(logging_dir=config.output),
    )
    if ours:
        AcceleratorState._shared_state[OURS] = True
    return accelerator


def check_accelerator(accelerator: Accelerator) -> None:
    """Insist on plain data parallelism and on gradients of the whole loss.

    Raises:
        VidsslError: for sharded training, or an accumulation of gradients that divides them.
    """
    if accelerator.distributed_type in SHARDED:
        raise _unsupported(accelerator.distributed_type.value)
    if (steps := accelerator.gradient_accumulation_steps) != 1:
        raise VidsslError(
            f"accelerate's gradient_accumulation_steps={steps}: must be 1, it would only divide the gradients; "
            f"train.accumulation={steps} saves the memory and keeps the loss of the whole batch"
        )


def mixed_precision(train: TrainConfig) -> str:
    """The recipe's precision in accelerate's words."""
    if train.precision == "auto":
        on_gpu = torch.cuda.is_available() and not asked_for_cpu()
        return "bf16" if on_gpu and torch.cuda.is_bf16_supported() else "no"
    return "no" if train.precision == "fp32" else train.precision


def _unsupported(name: str) -> VidsslError:
    return VidsslError(
        f"accelerate: {name} is not supported; launch plain processes (`accelerate launch --multi_gpu …`, "
        "distributed_type: MULTI_GPU in its config file)"
    )
