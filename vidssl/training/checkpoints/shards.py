"""The part of a checkpoint that every process writes and reads by itself, by torch's distributed checkpoint (DCP).

Its own files are no choice here: DCP's `.metadata` is a pickle, and nothing that is loaded may execute code. Its storage for
Hugging Face's layout writes safetensors files alone, one a process, whose headers say which rows of a tensor they hold; so any number of
processes can read them, and a single one puts them together (`vidssl.models.weights.read_state`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from vidssl.distributed import own_part
from vidssl.errors import VidsslError

State = Mapping[str, Tensor]


def copied(tensors: State, group: dist.ProcessGroup, still: Collection[str] = ()) -> dict[str, Tensor]:
    """What this process holds of some tensors, in main memory, so that it can be written while they change.

    Args:
        group: of all processes, on CPUs.
        still: names of those that do not change.
    """
    mesh = DeviceMesh.from_group(group, "cpu")

    def copy(name: str, x: Tensor) -> Tensor:
        own = own_part(x.detach()).to("cpu", copy=name not in still)
        if not isinstance(x, DTensor):
            return own
        return DTensor.from_local(own, mesh, x.placements, run_check=False, shape=x.shape, stride=x.stride())

    return {name: copy(name, x) for name, x in tensors.items()}


def write_shards(folder: Path, tensors: State, group: dist.ProcessGroup) -> None:
    """Every process writes what it holds of some tensors; what all of them hold whole is written once.

    Args:
        folder: on a disk that all processes see.
        tensors: by name, which every process has to give alike, see `copied`.
        group: in which the processes hear of each other.

    Raises:
        VidsslError: on all processes, when one of them cannot write.
    """
    try:
        save(
            {**tensors},
            storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True),
            process_group=group,
        )
    except (CheckpointException, OSError) as error:
        raise VidsslError(f"{folder}: cannot be written: {_reason(error)}") from error


def read_shards(folder: Path, tensors: State, what: str) -> None:
    """Fill tensors in place with what was written of them, each process the part that it holds.

    Raises:
        VidsslError: when names or shapes differ, or a file cannot be read.
    """
    wanted = {name: x.detach() for name, x in tensors.items()}
    sizes = shapes(folder)
    odd = [name for name in wanted.keys() | sizes.keys() if sizes.get(name) != _size(wanted.get(name))]
    if odd:
        said = f"{', '.join(sorted(odd)[:5])}{', …' if len(odd) > 5 else ''}"
        raise VidsslError(f"{what}: {len(odd)} names or shapes are others than this configuration's: {said}")
    try:
        load(wanted, storage_reader=HuggingFaceStorageReader(str(folder)))
    except (CheckpointException, OSError) as error:
        raise VidsslError(f"{folder}: cannot be read: {_reason(error)}") from error


def shapes(folder: Path) -> dict[str, torch.Size]:
    """Of the whole tensors that are there in parts.

    Raises:
        VidsslError: when there is no such folder.
    """
    if not folder.is_dir():
        raise VidsslError(
            f"{folder}: no such folder; a run with train.shard goes on from checkpoints that it wrote itself; without, from both"
        )
    found = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: getattr(entry, "size", torch.Size()) for name, entry in found.items()}


@torch.no_grad()
def load_module(module: nn.Module, folder: Path, what: str) -> None:
    """`read_shards` into a module's parameters and buffers."""
    read_shards(folder, module.state_dict(), what)


def _size(x: Any) -> torch.Size | None:
    return x.shape if isinstance(x, Tensor) else None


def _reason(error: BaseException) -> str:
    """The first process's mistake, in a line."""
    if isinstance(error, CheckpointException) and error.failures:
        failure = next(iter(error.failures.values()))[0]
        return str(failure).splitlines()[0]
    return str(error).splitlines()[0]
