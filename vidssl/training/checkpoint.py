"""Checkpoints: safetensors and JSON only, complete or absent.

A checkpoint folder ``checkpoints/step_00000100`` holds

- ``encoder/``: the teacher's encoder as an exported folder, ready for evaluation;
- ``student.safetensors``, ``teacher_heads.safetensors``, ``objective.safetensors``: the rest of the weights, queues
  and running centres;
- ``optimizer.safetensors`` and ``state.json``: optimiser moments, step, seed, random-generator states.

It is written under a temporary name, flushed and renamed, and only then does ``latest.json`` point at it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.files import read_json, write_json
from vidssl.models.export import save_encoder
from vidssl.models.student import Student
from vidssl.models.weights import load_strict, read_tensors

LATEST = "latest.json"


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
    temporary = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    save_encoder(teacher.encoder, temporary / "encoder")
    save_tensors(student.state_dict(), temporary / "student.safetensors")
    save_tensors(teacher.heads.state_dict(), temporary / "teacher_heads.safetensors")
    save_tensors(objective.state_dict(), temporary / "objective.safetensors")
    tensors, groups = _flatten_optimizer(optimizer)
    save_tensors(tensors, temporary / "optimizer.safetensors")
    write_json(temporary / "state.json", {"step": step, "param_groups": groups, **state})
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)
    sync_folder(folder.parent)
    write_json(run / LATEST, {"checkpoint": f"checkpoints/{folder.name}"})
    for old in sorted(folder.parent.glob("step_*"))[:-keep]:
        shutil.rmtree(old)
    return folder


def latest_checkpoint(run: Path) -> Path | None:
    """The checkpoint that `run` points at, None for a run that was stopped before its first."""
    pointer = run / LATEST
    if not pointer.is_file():
        return None
    try:
        folder = run / str(json.loads(pointer.read_text(encoding="utf-8"))["checkpoint"])
    except (ValueError, KeyError, TypeError) as error:
        raise VidsslError(f"{pointer}: not a checkpoint pointer ({error})") from error
    if not folder.is_dir():
        raise VidsslError(f"{pointer}: points at {folder.name}, which is not there")
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


def save_tensors(tensors: Mapping[str, Tensor], file: Path) -> None:
    """A flushed safetensors file; tensors that share storage are written out separately."""
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, file)
    with file.open("rb") as stream:
        os.fsync(stream.fileno())


def sync_folder(folder: Path) -> None:
    """Flush a rename to disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
