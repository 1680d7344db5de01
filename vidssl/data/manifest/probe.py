"""Probing many videos in processes of their own, which may crash or hang without harm to the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Timer
from typing import Any

from vidssl.data.decode.trouble import WAITS, patiently
from vidssl.data.ends import SLOW, crashed, ended_itself, lost
from vidssl.errors import VidsslError

STARTUP_SECONDS = 120.0  # for a worker to import its decoder, on a busy machine with a cold disk


Row = dict[str, Any]


def probe_all(
    paths: Sequence[Path], workers: int, timeout: float, decoders: Sequence[str] = ("pyav",)
) -> Iterator[tuple[int, Row]]:
    """Examine every path, ``workers`` at a time, at most ``timeout`` seconds each; in order of completion.

    Each row of facts (see `vidssl.data.manifest.store.facts.examine`) comes with the place of its path. A path over which a
    process crashed or took too long is asked once more; then it is told of as an error, or, where PyAV alone does better, as
    the objection of the other decoders.

    Workers are plain child processes, not forks of this one: safe with threads and CUDA here, and in scripts and
    notebooks that could not be imported a second time.

    Raises:
        VidsslError: a decoder cannot be loaded, the machine is in trouble (see `vidssl.data.decode.trouble`), or
            processes keep being killed from outside.
        RuntimeError: a worker process does not start.
    """
    probers = [_Prober(timeout, decoders) for _ in range(min(workers, len(paths)))]
    idle: SimpleQueue[_Prober] = SimpleQueue()
    for prober in probers:
        idle.put(prober)

    def probe(job: tuple[int, Path]) -> tuple[int, Row]:
        prober = idle.get()
        try:
            return job[0], prober.probe(job[1])
        finally:
            idle.put(prober)

    with ThreadPool(max(len(probers), 1)) as threads:
        try:
            yield from threads.imap_unordered(probe, enumerate(paths))
        finally:
            for prober in probers:
                prober.close()


class _Prober:
    """A worker process, started when first needed and again after it crashed or was killed."""

    module = "vidssl.data.manifest.probe_worker"

    def __init__(self, timeout: float, decoders: Sequence[str] = ("pyav",)) -> None:
        self.timeout, self.decoders, self.closed = timeout, tuple(decoders), False
        self.process: subprocess.Popen[bytes] | None = None

    def probe(self, path: Path) -> Row:
        answer = self._ask(path, self.decoders)
        if isinstance(answer, str) and set(self.decoders) > {"pyav"}:
            others, alone = self.decoders, self._ask(path, ("pyav",))
            if isinstance(alone, dict):
                return {**alone, **dict.fromkeys([name for name in others if name != "pyav"], answer)}
        return {"error": answer} if isinstance(answer, str) else answer

    def _ask(self, path: Path, decoders: Sequence[str]) -> Row | str:
        """The row of a file, or how the process ended over it, twice."""
        question = json.dumps([str(path), decoders]).encode() + b"\n"
        strikes = accidents = 0
        while True:
            process = self.process or patiently(self._start, path)
            line, expired = _ask(process, question, self.timeout)
            if line.endswith(b"\n"):
                return _understand(json.loads(line))
            self.stop()
            code = process.wait()
            if self.closed:
                raise RuntimeError("closed")
            if expired or ended_itself(code):
                strikes += 1
                if strikes > 1:
                    return f"{SLOW} {self.timeout:g} s to open" if expired else crashed(code)
            elif accidents < len(WAITS):
                time.sleep(WAITS[accidents])
                accidents += 1
            else:
                raise VidsslError(lost(accidents + 1, f"at {path}", code))

    def close(self) -> None:
        """Stop for good: a thread that is still at work must not start another process."""
        self.closed = True
        self.stop()

    def stop(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _start(self) -> subprocess.Popen[bytes]:
        if self.closed:
            raise RuntimeError("closed")
        self.process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path)},
        )
        line, _ = _ask(self.process, b"", STARTUP_SECONDS)
        if line != b"ready\n":
            self.stop()
            raise RuntimeError(
                "no process can be started to open videos: try python -m vidssl.data.manifest.probe_worker"
            )
        return self.process


def _understand(answer: Row) -> Row:
    if "trouble" in answer:
        raise VidsslError(answer["trouble"])
    return answer


def _ask(process: subprocess.Popen[bytes], question: bytes, timeout: float) -> tuple[bytes, bool]:
    """The process's next line (cut short if it died over it), and whether it was killed for taking too long."""
    assert process.stdin is not None
    assert process.stdout is not None
    expired = Event()

    def expire() -> None:
        expired.set()
        process.kill()

    timer = Timer(timeout, expire)
    timer.daemon = True
    timer.start()
    try:
        process.stdin.write(question)
        process.stdin.flush()
        return process.stdout.readline(), expired.is_set()
    except OSError:  # it was dead before it could read the question
        return b"", expired.is_set()
    finally:
        timer.cancel()
