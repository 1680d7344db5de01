"""How many CPU threads a command computes with, where nobody has said.

Threads of one operation wait for each other. Where one of them shares its core with another program, all wait for it, and a step of two
threads takes many times as long as one of a single thread (docs/training.md has the figures). So a command counts the cores that are free
when it begins.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

SET_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")  # what torch's number of threads is set by, and launchers set
LOOK = 0.2  # seconds over which others are watched
CGROUPS = Path("/sys/fs/cgroup")
OWN_GROUPS = Path("/proc/self/cgroup")


class Cores(NamedTuple):
    """Cores that this process may use, and how many of them others keep busy; fractions count."""

    usable: float
    busy: float


def chosen_by_user(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment says how many threads to take; launchers of several processes see to that too."""
    return any(environment.get(name) for name in SET_BY)


def choose_threads(cores: Cores, workers: int, processes: int = 1) -> int:
    """Threads of a process: the free cores, shared by the processes, less one for each decoding worker, at least half of
    them, and at least one.

    Args:
        workers: decoding processes of each process.
        processes: on this machine, which begin together: each would count the others as busy, so what others use is left out
            where there are several.
    """
    free = cores.usable - (cores.busy if processes == 1 else 0.0)
    share = math.floor((free + 0.25) / processes)  # a quarter of a core is what an idle machine does
    return max(share - workers, share // 2, 1)


def look_at_cores(seconds: float = LOOK) -> Cores:
    """What this process may use (affinity, quota of its control group), and what was busy over so many seconds."""
    import psutil

    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    percent = psutil.cpu_percent(interval=seconds, percpu=True)
    busy = sum(percent[core] for core in allowed if core < len(percent)) / 100
    quota = cpu_quota()
    return Cores(min(float(len(allowed)), quota or math.inf), busy)


def cpu_quota(groups: Path = CGROUPS, own: Path = OWN_GROUPS) -> float | None:
    """Cores that control groups (of containers, of SLURM) allow this process; None without a limit."""
    limits: list[float] = []
    with suppress(OSError):
        for line in own.read_text(encoding="utf-8").splitlines():
            _, kinds, path = line.split(":", 2)
            if kinds not in ("", "cpu", "cpu,cpuacct"):
                continue
            inner = Path(path.lstrip("/"))
            for part in (inner, *inner.parents):
                folder = groups / kinds / part
                with suppress(OSError, ValueError, ZeroDivisionError):
                    limits.append(_limit(folder, version=1 if kinds else 2))
    return min((limit for limit in limits if limit > 0), default=None)


def _limit(folder: Path, version: int) -> float:
    """Of one group; ValueError where its file says that there is none."""
    if version == 2:
        quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
    else:
        quota, period = (
            (folder / f"cpu.cfs_{name}_us").read_text(encoding="utf-8") for name in ("quota", "period")
        )
    return int(quota) / int(period)


@contextmanager
def computing_with(threads: int | None) -> Iterator[None]:
    """A block in which torch computes with so many threads; None leaves it as it is."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
