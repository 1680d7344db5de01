"""Checkpoints: safetensors and JSON only, complete or absent.

A checkpoint folder ``checkpoints/step_00000100`` holds

- ``encoder/``: the teacher's encoder as an exported folder, ready for evaluation; its text tower, which nothing changes, is in the
  run's ``initial/``, and so is what is frozen, where that is most of it;
- ``student.safetensors`` (without what is frozen, and the teacher's too), ``teacher_heads.safetensors``, ``objective.safetensors``: the rest of the weights, queues
  and running centres;
- ``optimizer.safetensors`` and ``state.json``: optimiser moments and groups, step, seed, digest of the videos;
- ``random.safetensors``: the states of torch's generators on every process, which dropout and stochastic depth draw from;
- ``checksums.json``: size and SHA-256 of all of these, written last.

Where a run is split over its processes, ``student``, ``teacher_heads``, ``optimizer`` and ``teacher_encoder`` are folders, with a
file of each process.

Only when it is whole on the disk does it get its name, and does ``latest.json`` point at it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from vidssl.distributed import on_first, rank
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
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.models.stored import own_tensors, read_config
from vidssl.models.weights import load_strict, read_state, read_tensors
from vidssl.runs import ENCODER, IN_ENCODER, OBJECTIVE, STATE, STUDENT, TEACHER_HEADS, read_student
from vidssl.training.checkpoints.once import text_in_initial, without_rest
from vidssl.training.checkpoints.shards import copied, load_module, read_shards, shapes, write_shards
from vidssl.training.checkpoints.state import State, set_generator
from vidssl.training.sharding import whole_state

OPTIMIZER, RANDOM = "optimizer.safetensors", "random.safetensors"
TEACHER_ENCODER = "teacher_encoder"  # only of a run that is split


class Snapshot(NamedTuple):
    """A state as it was after a step: copies on the CPU, which no later step changes.

    Attributes:
        encoder: what is exported; its description and its text tower, which never change, are asked of it.
        record: what becomes `state.json`.
        tensors: by file, the encoder's weights under `ENCODER`.
    """

    encoder: VideoEncoder
    record: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


def take_snapshot(state: State, generators: Sequence[dict[str, Tensor]]) -> Snapshot:
    """All of a state that is held whole; of one that is split, what the first process writes for all.

    Args:
        state: where it is split every process has to call this.
        generators: `generator_states` of each process.
    """
    encoder, draws = state.averaged.encoder, dict[str, Tensor]()
    for number, states in enumerate(generators):
        draws |= {f"{number}.{kind}": x for kind, x in states.items()}
    weights = whole_state(encoder) if state.split else encoder.state_dict()
    tensors = {
        ENCODER: weights,
        **({} if state.split else _large(state)),
        OBJECTIVE: state.objective.state_dict(),
        RANDOM: draws,
    }
    record = {
        "step": state.step,
        "param_groups": state.optimizer.state_dict()["param_groups"],
        "seed": state.seed,
        "total_steps": state.total_steps,
        "skipped": state.skipped,
        "failed_videos": state.failed_videos,
        "videos": state.videos,
        IN_ENCODER: state.shared,
    }
    still = {name.removeprefix("encoder.") for name in state.shared}  # which need no copy of their own
    copies = {
        file: {
            name: x.detach().to("cpu", copy=file != ENCODER or name not in still) for name, x in found.items()
        }
        for file, found in tensors.items()
    }
    return Snapshot(encoder, record, copies)


def save_checkpoint(run: Path, snapshot: Snapshot, keep: int, stopped: bool = False) -> Path:
    """Write a checkpoint into the run folder; drop all but the newest `keep`, and those of steps that are to be repeated.

    Args:
        run: the run folder.
        snapshot: what is written. Only one of the processes may write.
        keep: at least 1.
        stopped: recorded beside the name of the newest checkpoint: whether the run was told to stop after it.

    Raises:
        VidsslError: when it cannot be written; those before it are as they were.
    """
    folder = _folder(run, snapshot.record["step"])
    with _naming_the_last(run):
        with whole_folder(folder) as partial:
            _fill(partial, snapshot, run)
        _publish(run, folder, keep, stopped)
    return folder


def save_in_parts(
    run: Path,
    state: State,
    generators: Sequence[dict[str, Tensor]],
    keep: int,
    group: dist.ProcessGroup,
    stopped: bool = False,
) -> Callable[[], None]:
    """The same of a state that is split over processes, every one of which has to call this and then what it returns, which
    writes its part, in a thread if need be: the state may change meanwhile.

    Args:
        group: in which the processes hear of each other while they write, and nothing else happens.

    Raises:
        VidsslError: on all of them, when one cannot write.
    """
    folder, snapshot = _folder(run, state.step), take_snapshot(state, generators)
    encoder = state.averaged.encoder.state_dict()
    still = {name.removeprefix("encoder.") for name in state.shared}
    parts = {Path(name).stem: copied(tensors, group) for name, tensors in _large(state).items()}
    parts[TEACHER_ENCODER] = copied(encoder, group, still)
    stack = ExitStack()

    def begin() -> Path:
        partial = stack.enter_context(whole_folder(folder))
        for name in parts:
            (partial / name).mkdir()
        return partial

    with _naming_the_last(run):
        partial = on_first(begin)

    def write() -> None:
        with _naming_the_last(run), stack:
            for name, tensors in parts.items():
                write_shards(partial / name, tensors, group)
            if rank() == 0:  # where it is known that all are done
                _fill(partial, snapshot, run)
                stack.close()
                _publish(run, folder, keep, stopped)

    return write


def _folder(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"step_{step:08d}"


@contextmanager
def _naming_the_last(run: Path) -> Iterator[None]:
    try:
        yield
    except VidsslError as error:
        last = next(iter(checkpoints_of(run)), None)
        raise VidsslError(
            f"{error}; the last checkpoint is {last.name if last else 'not yet written'}"
        ) from error


def _fill(partial: Path, snapshot: Snapshot, run: Path) -> None:
    for name, tensors in snapshot.tensors.items():
        if name == ENCODER:
            text_in = text_in_initial(run, snapshot.encoder)
            weights, rest = without_rest(run, tensors, snapshot.record[IN_ENCODER])
            save_encoder(snapshot.encoder, partial / ENCODER, weights=weights, text_in=text_in, rest=rest)
        else:
            write_tensors(partial / name, tensors)
    write_json(partial / STATE, snapshot.record)
    seal(partial)


def _large(state: State) -> dict[str, dict[str, Tensor]]:
    """What grows with the network, by file."""
    moments = {
        f"{parameter}.{name}": tensor
        for parameter, entry in state.optimizer.state_dict()["state"].items()
        for name, tensor in entry.items()
    }
    shared = {*state.shared}
    return {
        STUDENT: {name: x for name, x in state.student.state_dict().items() if name not in shared},
        TEACHER_HEADS: state.averaged.heads.state_dict(),
        OPTIMIZER: moments,
    }


def _publish(run: Path, folder: Path, keep: int, stopped: bool) -> None:
    point_at_checkpoint(run, folder, stopped)
    earlier = [other for other in checkpoints_of(run) if other.name <= folder.name]
    for old in {*checkpoints_of(run)} - {*earlier[:keep]}:
        shutil.rmtree(old, ignore_errors=True)


def load_checkpoint(folder: Path, state: State) -> None:
    """Restore everything `save_checkpoint` wrote; learning rates and the like stay those of the recipe.

    A run that is not split goes on from one that was; the other way round only weights can be taken over (`model.pretrained`).

    Raises:
        VidsslError: when a file is missing or torn, or the weights do not fit the modules of this configuration.
    """
    record = read_json(folder / STATE)
    shared = {*record.get(IN_ENCODER, ())}
    _check_text(folder, state.averaged.encoder)
    if state.split:
        own = {name: x for name, x in state.student.state_dict().items() if name not in shared}
        read_shards(folder / "student", own, f"{folder}: student")
        load_module(state.averaged.encoder, folder / TEACHER_ENCODER, f"{folder}: encoder")
        load_module(state.averaged.heads, folder / "teacher_heads", f"{folder}: teacher heads")
    else:
        load_strict(state.student, read_student(folder), f"{folder}: student")
        load_strict(state.averaged.encoder, own_tensors(folder / ENCODER), f"{folder}: encoder")
        load_strict(state.averaged.heads, read_state(folder / TEACHER_HEADS), f"{folder}: teacher heads")
    load_strict(state.objective, read_tensors(folder / OBJECTIVE), f"{folder}: objective")
    _load_optimizer(state.optimizer, folder, record["param_groups"], state.split)
    state.step, state.skipped = record["step"], record["skipped"]
    state.failed_videos = record.get("failed_videos", 0)  # older checkpoints do not know
    for key, draws in read_tensors(folder / RANDOM).items():
        process, kind = key.split(".", 1)
        if int(process) == rank():
            set_generator(kind, draws)


def _check_text(folder: Path, encoder: VideoEncoder) -> None:
    """Insist on the text tower that the run began with, which no checkpoint holds."""
    text = read_config(folder / ENCODER)["text"]
    if text is not None and encoder.text is not None and text["fingerprint"] != encoder.text.fingerprint:
        raise VidsslError(
            f"{folder}: was trained beside another text tower than the one that model.pretrained gives now; bring that one back"
        )


def _moments_in_parts(optimizer: torch.optim.Optimizer, folder: Path) -> dict[str, Tensor]:
    """Of each parameter what this process holds, as the parameter is split."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    found: dict[str, Tensor] = {}
    for key, size in shapes(folder).items():
        parameter = parameters[int(key.split(".", 1)[0])]
        alike = size == parameter.shape and size != ()
        found[key] = torch.zeros_like(parameter.detach()) if alike else torch.zeros(size)
    read_shards(folder, found, f"{folder}")
    return found


def _load_optimizer(
    optimizer: torch.optim.Optimizer, folder: Path, groups: list[dict[str, Any]], in_parts: bool
) -> None:
    entries: dict[int, dict[str, Tensor]] = {}
    tensors = (
        _moments_in_parts(optimizer, folder / "optimizer") if in_parts else read_state(folder / OPTIMIZER)
    )
    for key, tensor in tensors.items():
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
