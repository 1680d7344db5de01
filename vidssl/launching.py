"""`accelerate launch --cpu --num_processes N`, made to start N processes.

For CPU-only runs accelerate's launcher starts a single process, whatever N is, unless MPI is installed and a host file
given, and says nothing (huggingface/accelerate, issue 2741). A user would compare "two processes" with one and find them
equal for the wrong reason. So the command line looks at how it was started and, in exactly that case, starts itself again
under torch's own launcher, which accelerate understands on every machine.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence

# Set by torchrun, by MPI and by SLURM's PMI: the processes are there already.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def relaunch_on_cpu(arguments: Sequence[str]) -> None:
    """Replace this process by N when `accelerate launch --cpu --num_processes N` started it alone; else return.

    Args:
        arguments: of the vidssl command, without its name.
    """
    if not asked_for_cpu() or any(name in os.environ for name in RANK_VARIABLES):
        return
    processes = asked_processes(_parent_command())
    if processes < 2:
        return
    print(f"vidssl: starting {processes} processes on the CPU", file=sys.stderr, flush=True)  # noqa: T201
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    # Where there are GPUs, accelerate would wait for the others on one of them, although they were not to be used.
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    os.execve(sys.executable, [sys.executable, *launcher, "-m", "vidssl", *arguments], hidden)  # noqa: S606


def asked_for_cpu() -> bool:
    """Whether `accelerate launch --cpu`, or its variable, keeps this process off the GPUs that there are."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")


def asked_processes(command: Sequence[str]) -> int:
    """N of an `accelerate launch … --num_processes N … -m vidssl …` command line; 1 for any other."""
    launcher, _, _ = " ".join(command).partition(" vidssl ")  # what follows are our own arguments
    found = re.search(r" --num[-_]processes[= ](\d+)\b", launcher)
    return int(found[1]) if found and "accelerate" in launcher else 1


def _parent_command() -> list[str]:
    import psutil

    try:
        parent = psutil.Process().parent()
        return parent.cmdline() if parent is not None else []
    except psutil.Error:
        return []
