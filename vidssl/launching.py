"""`accelerate launch --cpu --num_processes N`, made to start N processes; N may stand in accelerate's config file.

For CPU-only runs accelerate's launcher starts a single process, whatever N is, unless MPI is installed and a host file
given, and says nothing (huggingface/accelerate, issue 2741). A user would compare "two processes" with one and find them
equal for the wrong reason. So the command line looks at how it was started and, in exactly that case, starts itself again
with torch's own launcher, which accelerate understands on every machine:

    python -m vidssl.launching 2 pretrain configs/hsic_small.yaml data.train=videos

A mistake of the user's, which all processes meet, is then said once and without a traceback of the launcher's.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

_LAUNCHED = "VIDSSL_LAUNCHED"  # set for the processes that `launch` starts
_ERROR_FILE = "TORCHELASTIC_ERROR_FILE"  # torch's, of each process it starts: what went wrong, as JSON
# For a checkpoint after the step at hand; torch's own patience, 30 s, is less than a large model needs.
SHUTDOWN_SECONDS = 600
# Set by torchrun, by MPI and by SLURM's PMI: the processes are there already.
RANK_VARIABLES = ("RANK", "LOCAL_RANK", "PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def relaunch_on_cpu(arguments: Sequence[str]) -> None:
    """Replace this process by N when `accelerate launch`, for the CPU and N processes, started it alone; else return.

    Args:
        arguments: of the vidssl command, without its name.
    """
    if not asked_for_cpu() or any(name in os.environ for name in RANK_VARIABLES):
        return
    processes = asked_processes(_parent_command())
    if processes < 2:
        return
    print(f"vidssl: starting {processes} processes on the CPU", file=sys.stderr, flush=True)  # noqa: T201
    launcher = ["-m", "vidssl.launching", str(processes)]
    # Where there are GPUs, accelerate would wait for the others on one of them, although they were not to be used.
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    os.execve(sys.executable, [sys.executable, *launcher, *arguments], hidden)  # noqa: S606


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run a vidssl command in several processes; returns the exit code of those that failed, or 0."""
    from torch.distributed.run import parse_args, run

    os.environ[_LAUNCHED] = "1"
    # It would say again what the processes have said themselves.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="vidssl_launch_") as folder:
        options = ["--standalone", "--nproc_per_node", str(processes), "--log-dir", folder]
        options += ["--shutdown-timeout", str(SHUTDOWN_SECONDS)]
        return _ended(lambda: run(parse_args([*options, "-m", "vidssl", *arguments])), Path(folder))


def _ended(run: Callable[[], object], folder: Path) -> int:
    """The exit code of torch's launcher, when what its processes wrote into `folder` before they ended has been said."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        run()
    except ChildFailedError as error:
        said = [failure.error_file_data.get("message") for failure in error.failures.values()]
        for data in [data for data in said if isinstance(data, dict)][:1]:
            _print(data["message"])
        # Below 0: minus the signal, also of those that were ended for another's sake.
        codes = {failure.exitcode: rank for rank, failure in error.failures.items()}
        code = max(codes)
        if code < 0:
            _print(f"process {codes[code]} was ended by signal {-code} ({signal.Signals(-code).name})")
        return code if code > 0 else 128 - code
    except SignalException as error:
        # The launcher was told to stop and has told its processes, which had time to end as they do.
        told = _told(folder)
        for data in told[:1]:
            _print(data["message"])
        return max((int(data["code"]) for data in told), default=128 + int(error.sigval))
    return 0


def _told(folder: Path) -> list[dict[str, Any]]:
    """What processes said with `say_end`; one that was killed meanwhile may have left half of it."""
    told = []
    for file in sorted(folder.rglob("error.json")):
        try:
            data = json.loads(file.read_text(encoding="utf-8"))["message"]
        except (ValueError, KeyError, TypeError):
            continue
        if isinstance(data, dict) and "code" in data:
            told.append(data)
    return told


def say_end(message: str, code: int) -> None:
    """Print what the user did wrong, or why a run has stopped, once, however many processes have met it and will now end
    with this exit code."""
    file = os.environ.get(_ERROR_FILE)
    if file and os.environ.get(_LAUNCHED):
        now = {"timestamp": str(int(time.time()))}
        Path(file).write_text(
            json.dumps({"message": {"message": message, "code": code, "extraInfo": now}}), encoding="utf-8"
        )
    elif os.environ.get("RANK", "0") == "0":
        _print(message)


def _print(message: str) -> None:
    for line in message.splitlines():
        print(f"vidssl: {line}", file=sys.stderr, flush=True)  # noqa: T201


def asked_for_cpu() -> bool:
    """Whether `accelerate launch --cpu`, or its variable, keeps this process off the GPUs that there are."""
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("true", "1")


def keep_to_cpu() -> None:
    """Tell accelerate that the processes of a launcher compute on the CPU, where there is nothing else to compute on.

    Otherwise it takes each of them for one that was started alone, whatever torch's launcher says.
    """
    if int(os.environ.get("WORLD_SIZE") or 1) < 2 or "ACCELERATE_USE_CPU" in os.environ:
        return
    import torch

    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type == "mps":
        os.environ["ACCELERATE_USE_CPU"] = "true"


def asked_processes(command: Sequence[str]) -> int:
    """N of an `accelerate launch … --num_processes N … -m vidssl …` command line, or of the config file that such a
    command reads; 1 for any other."""
    end = next((i for i, word in enumerate(command) if Path(word).name == "vidssl"), len(command))
    launcher = command[:end]  # what follows are our own arguments
    if not any("accelerate" in word for word in launcher):
        return 1
    given = _option(launcher, "num_processes")
    if given is None and (file := _config_file(launcher)) is not None:
        given = str(_read(file).get("num_processes"))
    return int(given) if given is not None and given.isdecimal() else 1


def _option(command: Sequence[str], name: str) -> str | None:
    """The value of `--name value`, `--na-me value` or `--name=value`."""
    for word, following in zip(command, [*command[1:], ""], strict=True):
        key, equals, value = word.partition("=")
        if key.replace("-", "_") == f"__{name}":
            return value if equals else following
    return None


def _config_file(launcher: Sequence[str]) -> Path | None:
    """The file that accelerate's launcher read: the one it was given, or the user's own unless there was `--cpu`."""
    if (given := _option(launcher, "config_file")) is not None:
        return Path(given)
    if "--cpu" in launcher:
        return None
    from accelerate.commands.config.config_args import default_config_file

    return Path(default_config_file)


def _read(file: Path) -> dict[str, Any]:
    """A config file of accelerate's, YAML or JSON; empty where there is none."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}


def _parent_command() -> list[str]:
    import psutil

    try:
        parent = psutil.Process().parent()
        return parent.cmdline() if parent is not None else []
    except psutil.Error:
        return []


if __name__ == "__main__":
    sys.exit(launch(int(sys.argv[1]), sys.argv[2:]))
