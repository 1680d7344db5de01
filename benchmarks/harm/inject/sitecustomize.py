"""Faults inside the processes of a run, which Python imports at its start when this folder is on PYTHONPATH.

The plan is JSON in the variable HARM_PLAN:

- ``open``: {part of a file's name: [what, times]}: what opening it does to the process that opens it, so many times; what is
  the name of a signal, "exit", or "hang" (for ever, deaf to all signals that can be ignored)
- ``tries``: folder in which every such opening leaves a byte in a file of that name
- ``deadline``, ``between``: seconds that a decoding process is given, with a video open and without
- ``full``: {"at": "write" or "fsync", "step": s, "nth": n}: the disk is full from the n-th such call for the checkpoint of
  step s on
- ``held``: {"step": s, "seconds": t}: the first file of the checkpoint of step s takes t seconds to write
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any


def install(plan: dict[str, Any]) -> None:
    """Put the faults in place."""
    if "open" in plan:
        spoil_opening(plan["open"], Path(plan["tries"]))
    if "deadline" in plan:
        from vidssl.data import workers
        from vidssl.data.dataset import ClipDataset

        ClipDataset.__init__.__kwdefaults__["deadline"] = plan["deadline"]
        workers.BETWEEN_LIMIT = plan["between"]
    if "full" in plan:
        fill_disk(**plan["full"])
    if "held" in plan:
        hold_up(**plan["held"])


def spoil_opening(guilty: dict[str, tuple[str, int]], tries: Path) -> None:
    """Opening certain files ends or holds up the process, whichever decoder it would have used."""
    from vidssl.data.decode import open as module

    original = module.open_video

    def open_video(path: str | Path, backend: str = "auto", timeline: Any = None) -> Any:
        for name, (what, times) in guilty.items():
            if name in Path(path).name:
                with (tries / name).open("ab") as log:
                    log.write(b".")
                if (tries / name).stat().st_size <= times:
                    end(what)
        return original(path, backend, timeline)

    module.open_video = open_video


def end(what: str) -> None:
    """End this process, or hold it up."""
    faulthandler.disable()
    if what == "exit":
        os._exit(3)
    if what == "hang":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True:
            time.sleep(60)
    signal.signal(signal.Signals[what], signal.SIG_DFL)
    os.kill(os.getpid(), signal.Signals[what])
    time.sleep(60)


def fill_disk(at: str, step: int, nth: int) -> None:
    """Writing, or flushing, fails as on a full disk, for what belongs to one checkpoint."""
    mark, calls = f".step_{step:08d}.partial", count(1)

    def is_full(path: str) -> bool:
        return mark in path and next(calls) >= nth

    if at == "fsync":
        fsync = os.fsync

        def flush(descriptor: int) -> None:
            if is_full(str(Path(f"/proc/self/fd/{descriptor}").readlink())):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        os.fsync = flush
        return

    import safetensors.torch

    save_file, open_path = safetensors.torch.save_file, Path.open

    def save(tensors: Any, filename: Any, metadata: Any = None) -> None:
        if is_full(str(filename)):
            Path(filename).write_bytes(b"\0" * 1000)  # what still found room
            raise safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
        save_file(tensors, filename, metadata)

    def opened(path: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        stream = open_path(path, mode, *arguments, **options)
        if mode == "w" and is_full(str(path)):
            stream.close()
            return open_path(Path("/dev/full"), mode, *arguments, **options)
        return stream

    safetensors.torch.save_file, Path.open = save, opened


def hold_up(step: int, seconds: float) -> None:
    """A disk that is slow for one checkpoint."""
    import safetensors.torch

    mark, save_file, calls = f".step_{step:08d}.partial", safetensors.torch.save_file, count()

    def save(tensors: Any, filename: Any, metadata: Any = None) -> None:
        if mark in str(filename) and next(calls) == 0:
            time.sleep(seconds)
        save_file(tensors, filename, metadata)

    safetensors.torch.save_file = save


if "HARM_PLAN" in os.environ:
    install(json.loads(os.environ["HARM_PLAN"]))
