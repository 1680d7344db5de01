"""What a run holds in memory, and what to lower where there is not enough."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from vidssl.distributed import own_part
from vidssl.errors import VidsslError
from vidssl.threads import CGROUPS
from vidssl.training.setup import Run


def state_bytes(run: Run) -> dict[str, int]:
    """Bytes of weights, gradients, optimiser and teacher, each tensor once; activations are not among them."""
    shown = {id(parameter) for parameter in run.student.parameters()}
    own = [parameter for parameter in run.teacher.parameters() if id(parameter) not in shown]
    return {
        "weights": _bytes(run.student.parameters()) + _bytes(run.objective.parameters()),
        "gradients": _bytes(p for p in run.student.parameters() if p.requires_grad),
        "optimizer": _bytes(x for state in run.optimizer.state.values() for x in state.values()),
        "teacher": _bytes(own) if run.objective.needs_teacher else 0,
    }


def copy_bytes(run: Run) -> int:
    """Bytes of the copy that a checkpoint is written from, in the main memory of the first process: student, teacher, objectives
    and moments, without what is frozen."""
    student, averaged = list(run.student.parameters()), list(run.averaged.parameters())
    common = {id(parameter) for parameter in student} & {id(parameter) for parameter in averaged}
    weights = [parameter for parameter in (*student, *averaged) if id(parameter) not in common]
    return _bytes((*weights, *run.objective.parameters())) + state_bytes(run)["optimizer"]


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; on a CPU no more than its control group has left."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return int(torch.cuda.mem_get_info(device)[0])
    import psutil

    free = [int(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError):  # no such file, or "max"
        limit, used = (
            int((CGROUPS / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current")
        )
        free.append(limit - used)
    return min(free)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is one of the ways in which torch and Python say that there is no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def out_of_memory(run: Run) -> VidsslError:
    """One line: where it ran out, what is held, and what to lower, what costs least first."""
    train, model, views = run.config.train, run.config.model, run.views
    held = ", ".join(f"{name} {size / 2**20:,.0f}" for name, size in state_bytes(run).items())
    shown = ", ".join(f"{view.count} x {view.frames} x {view.size}²" for view in views)
    lower = [] if train.accumulation > 1 else ["train.accumulation=2 (the same loss in pieces)"]
    if not model.options.get("activation_checkpointing") and hasattr(
        run.student.encoder, "activation_checkpointing"
    ):
        lower.append("model.options.activation_checkpointing=true")
    if train.accumulation > 1:
        lower.append(f"train.accumulation={2 * train.accumulation}")
    lower += [f"a train.batch_size below {train.batch_size}", "fewer or smaller views"]
    device = run.accelerator.device
    used = (
        f", {torch.cuda.max_memory_allocated(device) / 2**20:,.0f} MiB at most"
        if device.type == "cuda"
        else ""
    )
    return VidsslError(
        f"{run.folder}: out of memory on {device} in step {run.watch.step} ({run.watch.phase}){used}: held are {held} MiB; the rest are activations of "
        f"{train.batch_size} clips over {run.accelerator.num_processes} processes, views {shown}; try {', '.join(lower)}, or --dry-run, which tells what a step needs"
    )


def no_room_for_a_copy(run: Run) -> VidsslError:
    """One line: that there is too little of the machine's memory for a checkpoint."""
    return VidsslError(
        f"{run.folder}: out of memory at the checkpoint of step {run.step}: it is written from a copy of "
        f"{copy_bytes(run) / 2**20:,.0f} MiB in main memory; try a smaller train.batch_size (on a CPU), fewer data.workers, or model.freeze"
    )


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(own_part(x).nbytes for x in tensors if isinstance(x, Tensor))
