"""A run split over its processes by torch's FSDP2 (`fully_shard`): each holds a part of the weights, gradients, moments and
moving average, and gathers the whole of a part of the network while it computes with it.

Zhao et al. 2023, arXiv 2304.11277, and torch's per-parameter successor. It is applied here and not by accelerate, whose part
stays precision and processes: `Accelerator.prepare` splits one model with its optimiser, and would leave the teacher whole on every
process; it does so on GPUs only, so that nothing could be tried on two processes of a laptop.

Numbers are those of whole weights to the order of additions: weights are gathered in their own precision, and gradients are
averaged over processes as `DistributedDataParallel` does.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from vidssl.config import TrainConfig
from vidssl.distributed import is_distributed, put_together, rank, world_size
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import build_from_spec
from vidssl.models.student import Student
from vidssl.models.weights import load_strict


def is_split(train: TrainConfig) -> bool:
    """Whether a run's weights are split: where the recipe says so and there is more than one process.

    Raises:
        VidsslError: together with LARS, which asks for norms of whole weights.
    """
    if not (train.shard and is_distributed()):
        return False
    if train.optimizer == "lars":
        raise VidsslError("train.shard: not with train.optimizer=lars, which asks for norms of whole weights")
    return True


def split(student: Student, others: Iterable[nn.Module], device: torch.device) -> None:
    """Split a student, its teacher and other modules of its kind over the processes, in place.

    What of the student is frozen stays whole on every process, where its teacher has it too: it has no gradient and no moments.

    Args:
        student: on the device, equal on all processes.
        others: copies of the student (the teacher) or of its encoder, without gradients.
        device: of this process.
    """
    # Said of every kind of module, and true of in-place changes of what one returns, which nothing here makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    frozen = {name for name, parameter in student.named_parameters() if not parameter.requires_grad}
    for module in (student, *others):
        prefix = "encoder." if isinstance(module, VideoEncoder) else ""
        whole = {p for name, p in module.named_parameters() if prefix + name in frozen}
        _split(module, whole, device)


def _split(module: nn.Module, whole: set[nn.Parameter], device: torch.device) -> None:
    mesh = init_device_mesh(device.type, (world_size(),))
    encoder = module.encoder if isinstance(module, Student) else module
    assert isinstance(encoder, VideoEncoder)
    heads = module.heads.values() if isinstance(module, Student) else ()
    for part in (*encoder.units(), encoder, *heads):
        if any(parameter not in whole for parameter in part.parameters()):
            # Gathered weights are given up after every forward pass, also those of the root: the average moves their parts.
            fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=whole)


@torch.no_grad()
def whole_copy(encoder: VideoEncoder) -> VideoEncoder:
    """A split encoder once more, whole on every process, for computing without the others: evaluation does, where processes have
    unlike numbers of videos. In evaluation mode; every process has to call this."""
    with torch.random.fork_rng(devices=[]):
        copy = build_from_spec(encoder.spec, text=False)
    load_strict(copy, {name: put_together(x).cpu() for name, x in encoder.state_dict().items()}, "encoder")
    copy.to(next(encoder.parameters()).device)
    copy.text = encoder.text
    return copy.requires_grad_(False).eval()


@torch.no_grad()
def whole_state(module: nn.Module) -> dict[str, Tensor]:
    """A module's state put together on the CPU of the first process, a tensor at a time; nothing on the others.

    Every process has to call this.
    """
    found = {}
    for name, tensor in module.state_dict().items():
        whole = put_together(tensor)
        if rank() == 0:
            found[name] = whole.cpu()
    return found
