"""Checkpoints: safetensors and JSON only, complete or absent.

A checkpoint folder ``checkpoints/step_00000100`` holds

- ``encoder/``: the teacher's encoder as an exported folder, ready for evaluation;
- ``student.safetensors``, ``teacher_heads.safetensors``, ``objective.safetensors``: the rest of the weights, queues
  and running centres;
- ``optimizer.safetensors`` and ``state.json``: optimiser moments and groups, step, seed.

Only when it is whole on the disk does ``latest.json`` point at it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.files import point_at_checkpoint, read_json, whole_folder, write_json, write_tensors
from vidssl.models.export import save_encoder
from vidssl.models.student import Student
from vidssl.models.teacher import Teacher
from vidssl.models.weights import load_strict, read_tensors
from vidssl.objectives.composite import Composite
from vidssl.runs import ENCODER, OBJECTIVE, STATE, STUDENT, TEACHER_HEADS

OPTIMIZER = "optimizer.safetensors"


@dataclass(kw_only=True)
class State:
    """What a run has learned and how far it is: all that a checkpoint holds.

    Attributes:
        step: number of finished steps.
        skipped: how many of the last ones made no update.
        failed_videos: how many clips were replaced so far, on all processes.
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

    @property
    def averaged(self) -> Student:
        """The teacher's encoder and heads."""
        return cast(Student, self.teacher.module)


def save_checkpoint(run: Path, state: State, keep: int) -> Path:
    """Write a checkpoint into the run folder and drop all but the newest `keep`. Call on one process only."""
    folder = run / "checkpoints" / f"step_{state.step:08d}"
    optimizer = state.optimizer.state_dict()
    moments = {
        f"{parameter}.{name}": tensor
        for parameter, entry in optimizer["state"].items()
        for name, tensor in entry.items()
    }
    record = {
        "step": state.step,
        "param_groups": optimizer["param_groups"],
        "seed": state.seed,
        "total_steps": state.total_steps,
        "skipped": state.skipped,
        "failed_videos": state.failed_videos,
    }
    with whole_folder(folder) as partial:
        save_encoder(state.averaged.encoder, partial / ENCODER)
        write_tensors(partial / STUDENT, state.student.state_dict())
        write_tensors(partial / TEACHER_HEADS, state.averaged.heads.state_dict())
        write_tensors(partial / OBJECTIVE, state.objective.state_dict())
        write_tensors(partial / OPTIMIZER, moments)
        write_json(partial / STATE, record)
    point_at_checkpoint(run, folder)
    for old in sorted(folder.parent.glob("step_*"))[:-keep]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(folder: Path, state: State) -> None:
    """Restore everything `save_checkpoint` wrote.

    Raises:
        VidsslError: when a file is missing or torn, the weights do not fit the modules of this configuration, or it has
            another seed or length.
    """
    record = read_json(folder / STATE)
    load_strict(state.student, read_tensors(folder / STUDENT), f"{folder}: student")
    encoder = read_tensors(folder / ENCODER / "model.safetensors")
    load_strict(state.averaged.encoder, encoder, f"{folder}: encoder")
    load_strict(state.averaged.heads, read_tensors(folder / TEACHER_HEADS), f"{folder}: teacher heads")
    load_strict(state.objective, read_tensors(folder / OBJECTIVE), f"{folder}: objective")
    _load_optimizer(state.optimizer, folder, record["param_groups"])
    for key in ("seed", "total_steps"):
        if record[key] != getattr(state, key):
            raise VidsslError(
                f"{folder}: was written with {key} {record[key]}, this configuration has {getattr(state, key)}"
            )
    state.step, state.skipped = record["step"], record["skipped"]
    state.failed_videos = record.get("failed_videos", 0)  # older checkpoints do not know


def _load_optimizer(optimizer: torch.optim.Optimizer, folder: Path, groups: list[dict[str, Any]]) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, tensor in read_tensors(folder / OPTIMIZER).items():
        parameter, name = key.split(".", 1)
        entries.setdefault(int(parameter), {})[name] = tensor
    sizes = [len(group["params"]) for group in groups]
    own = [len(group["params"]) for group in optimizer.param_groups]
    if sizes != own:
        raise VidsslError(
            f"{folder}: optimiser has parameter groups of sizes {sizes}, this configuration {own}"
        )
    for group in groups:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
