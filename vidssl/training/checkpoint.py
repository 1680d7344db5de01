"""Checkpoints: safetensors and JSON only, complete or absent.

A checkpoint folder ``checkpoints/step_00000100`` holds

- ``encoder/``: the teacher's encoder as an exported folder, ready for evaluation;
- ``student.safetensors``, ``teacher_heads.safetensors``, ``objective.safetensors``: the rest of the weights, queues
  and running centres;
- ``optimizer.safetensors`` and ``state.json``: optimiser moments and groups, step, seed, digest of the videos;
- ``random.safetensors``: the states of torch's generators on every process, which dropout and stochastic depth draw from;
- ``checksums.json``: size and SHA-256 of all of these, written last.

Only when it is whole on the disk does it get its name, and does ``latest.json`` point at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vidssl.distributed import rank
from vidssl.errors import VidsslError
from vidssl.files import (
    CHECKPOINTS,
    checkpoints_of,
    point_at_checkpoint,
    read_json,
    seal,
    whole_folder,
    write_json,
    write_tensors,
)
from vidssl.models.export import save_encoder
from vidssl.models.student import Student
from vidssl.models.teacher import Teacher
from vidssl.models.weights import load_strict, read_tensors
from vidssl.objectives.composite import Composite
from vidssl.runs import ENCODER, OBJECTIVE, STATE, STUDENT, TEACHER_HEADS

OPTIMIZER, RANDOM = "optimizer.safetensors", "random.safetensors"


@dataclass(kw_only=True)
class State:
    """What a run has learned and how far it is: all that a checkpoint holds.

    Attributes:
        step: number of finished steps.
        skipped: how many of the last ones made no update.
        failed_videos: how many clips were replaced so far, on all processes.
        videos: digest of the videos.
    """

    student: Student
    teacher: Teacher
    objective: Composite
    optimizer: torch.optim.Optimizer
    seed: int
    total_steps: int
    step: int = 0
    skipped: int = 0
    failed_videos: int = 0
    videos: str = ""

    @property
    def averaged(self) -> Student:
        """The teacher's encoder and heads."""
        return cast(Student, self.teacher.module)


def generator_states(device: torch.device) -> dict[str, Tensor]:
    """This process's states of torch's own generators, of the CPU and of its device, by kind of device."""
    states = {"cpu": torch.get_rng_state()}
    if device.type != "cpu":
        states[device.type] = torch.get_device_module(device).get_rng_state().cpu()
    return states


def save_checkpoint(
    run: Path, state: State, generators: Sequence[dict[str, Tensor]], keep: int, stopped: bool = False
) -> Path:
    """Write a checkpoint into the run folder; drop all but the newest `keep`, and those of steps that are to be repeated.

    Args:
        run: the run folder.
        state: what is written.
        generators: `generator_states` of each process. Only one of the processes may write.
        keep: at least 1.
        stopped: recorded beside the name of the newest checkpoint: whether the run was told to stop after it.

    Raises:
        VidsslError: when it cannot be written; those before it are as they were.
    """
    folder = run / CHECKPOINTS / f"step_{state.step:08d}"
    optimizer = state.optimizer.state_dict()
    moments = {
        f"{parameter}.{name}": tensor
        for parameter, entry in optimizer["state"].items()
        for name, tensor in entry.items()
    }
    draws = {f"{number}.{kind}": x for number, states in enumerate(generators) for kind, x in states.items()}
    record = {
        "step": state.step,
        "param_groups": optimizer["param_groups"],
        "seed": state.seed,
        "total_steps": state.total_steps,
        "skipped": state.skipped,
        "failed_videos": state.failed_videos,
        "videos": state.videos,
    }
    try:
        with whole_folder(folder) as partial:
            save_encoder(state.averaged.encoder, partial / ENCODER)
            write_tensors(partial / STUDENT, state.student.state_dict())
            write_tensors(partial / TEACHER_HEADS, state.averaged.heads.state_dict())
            write_tensors(partial / OBJECTIVE, state.objective.state_dict())
            write_tensors(partial / OPTIMIZER, moments)
            write_tensors(partial / RANDOM, draws)
            write_json(partial / STATE, record)
            seal(partial)
        point_at_checkpoint(run, folder, stopped)
    except VidsslError as error:
        last = next(iter(checkpoints_of(run)), None)
        raise VidsslError(
            f"{error}; the last checkpoint is {last.name if last else 'not yet written'}"
        ) from error
    earlier = [other for other in checkpoints_of(run) if other.name <= folder.name]
    for old in {*checkpoints_of(run)} - {*earlier[:keep]}:
        shutil.rmtree(old, ignore_errors=True)
    return folder


def load_checkpoint(folder: Path, state: State) -> None:
    """Restore everything `save_checkpoint` wrote; learning rates and the like stay those of the recipe.

    Raises:
        VidsslError: when a file is missing or torn, or the weights do not fit the modules of this configuration.
    """
    record = read_json(folder / STATE)
    load_strict(state.student, read_tensors(folder / STUDENT), f"{folder}: student")
    encoder = read_tensors(folder / ENCODER / "model.safetensors")
    load_strict(state.averaged.encoder, encoder, f"{folder}: encoder")
    load_strict(state.averaged.heads, read_tensors(folder / TEACHER_HEADS), f"{folder}: teacher heads")
    load_strict(state.objective, read_tensors(folder / OBJECTIVE), f"{folder}: objective")
    _load_optimizer(state.optimizer, folder, record["param_groups"])
    state.step, state.skipped = record["step"], record["skipped"]
    state.failed_videos = record.get("failed_videos", 0)  # older checkpoints do not know
    for key, draws in read_tensors(folder / RANDOM).items():
        process, kind = key.split(".", 1)
        if int(process) == rank():
            _set_generator(kind, draws)


def _set_generator(kind: str, draws: Tensor) -> None:
    """That of the CPU or of this process's device; nothing on a machine without such a device."""
    if kind == "cpu":
        torch.set_rng_state(draws)
    elif (module := torch.get_device_module(kind)).is_available():
        module.set_rng_state(draws)


def _load_optimizer(optimizer: torch.optim.Optimizer, folder: Path, groups: list[dict[str, Any]]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(folder / OPTIMIZER).items():
        parameter, name = key.split(".", 1)
        entries.setdefault(int(parameter), {})[name] = tensor
    kept = {name for entry in entries.values() for name in entry}
    if kept and ("exp_avg" in kept) != isinstance(optimizer, torch.optim.AdamW):
        raise VidsslError(
            f"{folder}: holds the state of another optimiser ({', '.join(sorted(kept))}); keep train.optimizer"
        )
    sizes = [len(group["params"]) for group in groups]
    own = optimizer.state_dict()["param_groups"]
    if sizes != [len(group["params"]) for group in own]:
        raise VidsslError(
            f"{folder}: optimiser has parameter groups of sizes {sizes}, this configuration "
            f"{[len(group['params']) for group in own]}"
        )
    optimizer.load_state_dict({"state": entries, "param_groups": own})
