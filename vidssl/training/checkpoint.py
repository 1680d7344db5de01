"""Checkpoints: safetensors and JSON only, complete or absent.

A checkpoint folder ``checkpoints/step_00000100`` holds

- ``encoder/``: the teacher's encoder as an exported folder, ready for evaluation;
- ``student.safetensors``, ``teacher_heads.safetensors``, ``objective.safetensors``: the rest of the weights, queues
  and running centres;
- ``optimizer.safetensors`` and ``state.json``: optimiser moments, step, seed, random-generator states.

Only when it is whole on the disk does ``latest.json`` point at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.files import point_at_checkpoint, read_json, whole_folder, write_json, write_tensors
from vidssl.models.export import save_encoder
from vidssl.models.student import Student
from vidssl.models.weights import load_strict, read_tensors


def save_checkpoint(
    run: Path,
    step: int,
    *,
    student: Student,
    teacher: Student,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write checkpoint `step` (number of finished steps) of the run folder and drop all but the newest `keep`.

    Call on one process only. `state` is JSON data of the loop.
    """
    folder = run / "checkpoints" / f"step_{step:08d}"
    tensors, groups = _flatten_optimizer(optimizer)
    with whole_folder(folder) as partial:
        save_encoder(teacher.encoder, partial / "encoder")
        write_tensors(partial / "student.safetensors", student.state_dict())
        write_tensors(partial / "teacher_heads.safetensors", teacher.heads.state_dict())
        write_tensors(partial / "objective.safetensors", objective.state_dict())
        write_tensors(partial / "optimizer.safetensors", tensors)
        write_json(partial / "state.json", {"step": step, "param_groups": groups, **state})
    point_at_checkpoint(run, folder)
    for old in sorted(folder.parent.glob("step_*"))[:-keep]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(
    folder: Path,
    *,
    student: Student,
    teacher: Student,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Restore everything `save_checkpoint` wrote; returns the loop's state.

    Raises:
        VidsslError: when a file is missing or torn, or the weights do not fit the modules of this configuration.
    """
    state = read_json(folder / "state.json")
    load_strict(student, read_tensors(folder / "student.safetensors"), f"{folder}: student")
    load_strict(teacher.encoder, read_tensors(folder / "encoder" / "model.safetensors"), f"{folder}: encoder")
    load_strict(teacher.heads, read_tensors(folder / "teacher_heads.safetensors"), f"{folder}: teacher heads")
    load_strict(objective, read_tensors(folder / "objective.safetensors"), f"{folder}: objective")
    groups = state.pop("param_groups")
    _restore_optimizer(optimizer, read_tensors(folder / "optimizer.safetensors"), groups, folder)
    return state


def _flatten_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """Moments as ``<parameter index>.<name>`` tensors, groups as JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{name}": value if isinstance(value, Tensor) else torch.tensor(value)
        for index, entry in state["state"].items()
        for name, value in entry.items()
    }
    return tensors, state["param_groups"]


def _restore_optimizer(
    optimizer: torch.optim.Optimizer,
    tensors: Mapping[str, Tensor],
    groups: list[dict[str, Any]],
    folder: Path,
) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        entries.setdefault(int(index), {})[name] = value
    sizes = [len(group["params"]) for group in groups]
    own = [len(group["params"]) for group in optimizer.state_dict()["param_groups"]]
    if sizes != own:
        raise VidsslError(
            f"{folder}: optimiser has parameter groups of sizes {sizes}, this configuration {own}"
        )
    for group in groups:
        group["betas"] = tuple(group["betas"])
    optimizer.load_state_dict({"state": entries, "param_groups": groups})
