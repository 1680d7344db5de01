"""`vidssl doctor --distributed`: whether processes that are about to train together can, and start from the same.

    accelerate launch --config_file configs/accelerate/nodes4x8.yaml … -m vidssl doctor --distributed configs/hsic.yaml data.train=…

A run takes recipe and videos from its first process, and its numbers from all of them. So every process says here what it would
have taken itself: its place, its versions, the recipe, the videos as its machine sees them.
"""

from __future__ import annotations

import os
import socket
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import torch
import torch.distributed as dist
import typer
from accelerate import PartialState

from vidssl.config import Config, load_config
from vidssl.data.decode.choice import decoder_order
from vidssl.data.features.store import read_features
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.distributed import all_sum, rank, world_size
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.launching import asked_for_cpu
from vidssl.training.conditions import flat, short

T = TypeVar("T")

MEETING = timedelta(minutes=5)  # until all processes have to be there, and for each all-reduce
READING = timedelta(hours=12)  # for machines that hash many videos, one faster than another
SIZES = (2**20, 2**26)  # bytes of the all-reduces that are timed
TIMES = 5


class Seat(NamedTuple):
    """Where a process runs, and what it computes on."""

    host: str
    local_rank: int
    device: str


def take_seat() -> Seat:
    """Join the processes that a launcher started.

    Raises:
        VidsslError: when this one is alone, or the others do not come.
    """
    processes = os.environ.get("WORLD_SIZE", "1")
    try:
        state = PartialState(cpu=asked_for_cpu(), timeout=MEETING)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise VidsslError(f"--distributed: {processes} processes did not come together: {reason}") from error
    if state.num_processes < 2:
        raise VidsslError(
            "--distributed: this is the only process; start it as the run will be: "
            "accelerate launch … -m vidssl doctor --distributed"
        )
    return Seat(socket.gethostname(), state.local_process_index, str(state.device))


def examine(
    seat: Seat, recipe: str | None, overrides: Sequence[str] = (), sizes: Sequence[int] = SIZES
) -> dict[str, Any]:
    """Compare what the processes have, and try what they do together. Every process has to call this.

    Args:
        seat: of this process.
        recipe: file or name, as `vidssl pretrain` takes it, and its overrides; None: only machines and versions are compared.
        sizes: bytes of the all-reduces that are timed.

    Returns:
        JSON-able, the same on all processes: `processes` (one seat each), `all_reduce` (bytes and bytes_per_second, of the
        tensor that is summed, the median of five), `compared` (what is the same where nothing is found) and `findings`, a line each.
    """
    device = torch.device(seat.device)
    patient = cast(dist.ProcessGroup, dist.new_group(backend="gloo", timeout=READING))

    def of_all(value: T) -> list[T]:
        everyone: list[Any] = [None] * world_size()
        dist.all_gather_object(everyone, value, group=patient)
        return everyone

    seats = of_all(seat)
    findings = shared_devices(seats)
    findings += differences("versions", of_all(_versions(device)))
    compared = ["versions"]
    if recipe is not None:
        config, said = _tried(lambda: load_config(recipe, overrides))
        recipes = of_all(flat(config.model_dump(mode="json")) if config is not None else said)
        findings += differences("recipe", recipes)
        found = _videos_once_a_machine(config, seats, of_all)
        findings += differences("data", found)
        compared += ["recipe", "data"]
    wrong = of_all(_wrong_sums(device))
    findings += [
        f"all-reduce: wrong sum on rank {place} ({seats[place].host}): {said}"
        for place, said in enumerate(wrong)
        if said is not None
    ]
    return {
        "processes": [{"rank": place, **one._asdict()} for place, one in enumerate(seats)],
        "backend": str(dist.get_backend()),
        "all_reduce": [{"bytes": size, "bytes_per_second": _bandwidth(size, device)} for size in sizes],
        "compared": compared,
        "findings": findings,
    }


def show(report: Mapping[str, Any]) -> None:
    """Print for a person what was found to be well; `findings` are left to who raises them."""
    for one in report["processes"]:
        typer.echo(f"rank {one['rank']}: {one['host']}, local rank {one['local_rank']}, {one['device']}")
    for row in report["all_reduce"]:
        size, rate = row["bytes"] / 2**20, row["bytes_per_second"] / 1e9
        typer.echo(f"all-reduce of {size:,.3g} MiB by {report['backend']}: {rate:.3g} GB/s")
    if not report["findings"]:
        typer.echo(f"the same on all processes: {', '.join(report['compared'])}; all-reduce sums are right")


def shared_devices(seats: Sequence[Seat]) -> list[str]:
    """GPUs that more than one process would compute on, a line each."""
    taken: dict[tuple[str, str], list[int]] = {}
    for place, seat in enumerate(seats):
        if torch.device(seat.device).type != "cpu":
            taken.setdefault((seat.host, seat.device), []).append(place)
    return [
        f"device: {device} of {host} is given to {_ranks(ranks)}; one process a GPU"
        for (host, device), ranks in taken.items()
        if len(ranks) > 1
    ]


def differences(what: str, found: Sequence[Mapping[str, Any] | str]) -> list[str]:
    """What differs between processes, a line each: who has what.

    Args:
        what: is compared.
        found: by each process, key -> value; a text where there was a mistake instead, which is named (where it
            has been said already: an empty one) and not compared.
    """
    lines = []
    mistakes = [one if isinstance(one, str) else None for one in found]
    for said in dict.fromkeys(one for one in mistakes if one):
        ranks = [place for place, one in enumerate(mistakes) if one == said]
        lines.append(f"{what}: {said}" if len(ranks) == len(found) else f"{what}: {_ranks(ranks)}: {said}")
    facts = {place: one for place, one in enumerate(found) if not isinstance(one, str)}
    for key in dict.fromkeys(key for one in facts.values() for key in one):
        holders: dict[str, list[int]] = {}
        for place, one in facts.items():
            holders.setdefault(repr(one.get(key)), []).append(place)
        if len(holders) > 1:
            said = "; ".join(
                f"{short(facts[ranks[0]].get(key))} on {_ranks(ranks)}" for ranks in holders.values()
            )
            lines.append(f"{what}: {key}: {said}")
    return lines


def _versions(device: torch.device) -> dict[str, Any]:
    record = environment()
    del record["platform"]
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    cuda, nccl = torch.version.cuda, torch.cuda.nccl.version() if device.type == "cuda" else None
    threads = torch.get_num_threads() if device.type == "cpu" else None
    return flat({**record, "device": hardware, "cuda": cuda, "nccl": nccl, "threads": threads})


def _tried(function: Callable[[], T]) -> tuple[T | None, str]:
    """What a function returns, or the mistake that it names."""
    try:
        return function(), ""
    except VidsslError as error:
        return None, " ".join(str(error).split())


def _videos_once_a_machine(
    config: Config | None, seats: Sequence[Seat], of_all: Callable[[Any], list[Any]]
) -> list[dict[str, Any] | str]:
    """The videos of each process; those of one machine with the same paths read them once."""
    places = "" if config is None else repr((config.data.train, config.data.features))
    keys = [(seat.host, place) for seat, place in zip(seats, of_all(places), strict=True)]
    mine: dict[str, Any] | str = ""
    if config is not None and keys.index(keys[rank()]) == rank():
        found, said = _tried(lambda: _videos(config))
        mine = said if found is None else found
    read = of_all(mine)
    return [read[keys.index(key)] for key in keys]


def _videos(config: Config) -> dict[str, Any]:
    data = config.data
    if data.features is not None:
        store = read_features(data.features)
        return {"features": len(store.index), "digest": store.digest()}
    facts: dict[str, Any] = {"decoders": list(decoder_order())} if data.decoder == "auto" else {}
    for number, one in enumerate(data.train):
        index = VideoIndex.read(one.path, data.missing)
        facts |= {
            f"train.{number}.videos": len(index),
            f"train.{number}.digest": data_digest(index, progress=False),
        }
    return facts


def _wrong_sums(device: torch.device) -> str | None:
    """What is wrong with a sum over all processes, each of which gives other numbers; exact in float32."""
    pattern = torch.arange(1, 1001, device=device, dtype=torch.float32)
    total = all_sum(pattern * (rank() + 1))
    right = pattern * (world_size() * (world_size() + 1) // 2)
    bad = (total != right).nonzero().flatten().tolist()
    return (
        f"{total[bad[0]].item():g} instead of {right[bad[0]].item():g}, {len(bad)} of {len(right)} numbers"
        if bad
        else None
    )


def _bandwidth(size: int, device: torch.device) -> float:
    """Bytes of a float32 tensor that are summed over all processes in a second, the median of a few times."""
    tensor, seconds = torch.zeros(size // 4, device=device), []
    for _ in range(TIMES + 1):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(tensor)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    slowest = torch.tensor(statistics.median(seconds[1:]), device=device, dtype=torch.float64)
    dist.all_reduce(slowest, dist.ReduceOp.MAX)
    return size / float(slowest)


def _ranks(places: Iterable[int]) -> str:
    """`rank 1`, `ranks 0, 2-7`."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    said = ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
    return f"rank {said}" if len(runs) == 1 and len(runs[0]) == 1 else f"ranks {said}"
