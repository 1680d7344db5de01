"""Runs on full disks, with damaged checkpoints, and twice in one folder."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from harm.runs import (
    EVERY,
    LIMIT,
    STEPS,
    Bench,
    Fault,
    log_lines,
    newest_whole,
    require_equal,
    require_refusal,
    steps_logged,
)

LOCK = "run.lock"  # in a run folder
NEWEST = f"checkpoints/step_{STEPS:08d}"
Figures = dict[str, Any]


def full_disk(bench: Bench, times: int) -> Figures:
    """No space left in writing or flushing a checkpoint, at random points: one line, exit code 2, and the last one intact."""
    run, failed = bench.folder("full_disk"), {"write": 0, "fsync": 0}
    for number in range(2 * times):
        if newest_whole(run) >= STEPS - EVERY:
            bench.complete(run)
            require_equal(run, bench.reference())
            run = bench.folder("full_disk")
        at = ("write", "fsync")[number % 2]
        before, step = newest_whole(run), newest_whole(run) + EVERY * int(bench.rng.integers(1, 3))
        plan = {"full": {"at": at, "step": step, "nth": int(bench.rng.integers(1, 9))}}
        start = bench.start(run, plan=plan)
        require_refusal(
            start, start.end(), "cannot be written", "No space left on device", "the last checkpoint is"
        )
        if newest_whole(run) != step - EVERY or step - EVERY < before:
            raise Fault(f"{plan}: the newest whole checkpoint is that of step {newest_whole(run)}")
        failed[at] += 1
    bench.complete(run)
    require_equal(run, bench.reference())
    return failed


def file_size_limit(bench: Bench, times: int) -> Figures:
    """RLIMIT_FSIZE below the largest files of a checkpoint: at the first one written, and in a run that goes on."""
    limits = []
    largest = max(file.stat().st_size for file in (bench.reference() / NEWEST).rglob("*.safetensors"))
    for number in range(times):
        run = bench.folder("size_limit")
        if number % 2:
            copy_of(bench.reference(), run, last=EVERY * int(bench.rng.integers(1, 4)))
        before = newest_whole(run)
        limits.append(int(bench.rng.integers(largest // 4, largest)))
        start = bench.start(run, largest_file=limits[-1])
        require_refusal(start, start.end(), "cannot be written", "File too large")
        if newest_whole(run) != before:
            raise Fault(
                f"limit {limits[-1]}: the newest whole checkpoint is that of step {newest_whole(run)}"
            )
        bench.complete(run)
        require_equal(run, bench.reference())
    return {"limits, bytes": limits}


def small_file_system(bench: Bench, times: int) -> Figures:
    """A file system in memory that is full after a checkpoint or two. Left out where nothing can be mounted."""
    for _ in range(times):
        place = bench.folder("small_disk")
        place.mkdir(parents=True)
        if subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=20m", "tmpfs", str(place)], check=False
        ).returncode:
            return {"left out": "nothing can be mounted here"}
        try:
            run = place / "run"
            start = bench.start(run)
            require_refusal(start, start.end(), "cannot be written", "No space left on device")
            kept = newest_whole(run)
            if not 0 < kept < STEPS:
                raise Fault(f"the newest whole checkpoint is that of step {kept}")
            subprocess.run(["mount", "-o", "remount,size=100m", str(place)], check=True)
            bench.complete(run)
            require_equal(run, bench.reference())
        finally:
            subprocess.run(["umount", "-l", str(place)], check=True)
    return {"full file systems": times, "checkpoint kept": kept}


def torn(bench: Bench, times: int) -> Figures:
    """A file of the newest checkpoint cut off at a random byte."""

    def cut(file: Path) -> None:
        with file.open("r+b") as stream:
            stream.truncate(int(bench.rng.integers(file.stat().st_size)))

    return _damaged(bench, times, cut)


def flipped(bench: Bench, times: int) -> Figures:
    """One random bit of a file of the newest checkpoint."""

    def flip(file: Path) -> None:
        content = bytearray(file.read_bytes())
        content[int(bench.rng.integers(len(content)))] ^= 1 << int(bench.rng.integers(8))
        file.write_bytes(content)

    return _damaged(bench, times, flip)


def lost(bench: Bench, times: int) -> Figures:
    """A file of the newest checkpoint gone; the whole newest checkpoint gone; the pointer gone, and torn."""
    names = _damaged(bench, times, Path.unlink)
    changes: dict[str, tuple[Callable[[Path], object], str]] = {
        "the newest checkpoint": (lambda run: shutil.rmtree(run / NEWEST), ""),
        "latest.json": (lambda run: (run / "latest.json").unlink(), "latest.json is lost; going on from"),
        "half of latest.json": (lambda run: (run / "latest.json").write_text('{"check'), ""),
    }
    for what, (change, words) in changes.items():
        run = copy_of(bench.reference(), bench.folder("lost"))
        change(run)
        _goes_on(bench, run, what, words)
        names[what] = 1
    return names


def all_damaged(bench: Bench, times: int) -> Figures:
    """No whole checkpoint left: refused in one line, and not a byte is changed."""
    run = copy_of(bench.reference(), bench.folder("all_damaged"))
    for checkpoint in (run / "checkpoints").iterdir():
        (checkpoint / "student.safetensors").write_bytes(b"")
    before = fingerprint(run)
    start = bench.start(run)
    require_refusal(start, start.end(), "no whole checkpoint is left")
    if fingerprint(run) != before:
        raise Fault("a refused start changed the folder")
    return {"refused": 1}


def two_starts(bench: Bench, times: int) -> Figures:
    """Two starts in one folder: at the same moment, and the second (--resume, and without) while the first runs."""
    for _ in range(times):
        _two_at_once(bench)
        _second_while_first_runs(bench)
    return {"refused": 3 * times}


def _two_at_once(bench: Bench) -> None:
    run = bench.folder("two_starts")
    pair = [bench.start(run, resume=False) for _ in range(2)]
    codes = [start.end() for start in pair]
    if sorted(codes) != [0, 2]:
        raise Fault(f"exit codes {codes}: {[start.said[-700:] for start in pair]}")
    require_refusal(pair[codes.index(2)], 2, "output: ")
    require_equal(run, bench.reference())


def _second_while_first_runs(bench: Bench) -> None:
    run = bench.folder("two_starts")
    first = bench.start(run, "train.steps=1000", resume=False)
    first.wait_for(lambda: len(steps_logged(run)) > 0, LIMIT, "no step")
    for resume, words in ((True, "another run is writing to this folder"), (False, "output: ")):
        second = bench.start(run, resume=resume)
        require_refusal(second, second.end(), words)
    if not first.running():
        raise Fault(f"the first run ended: {first.said[-700:]}")
    first.process.terminate()
    if (code := first.end()) != 75:
        raise Fault(f"exit code {code} of the first run: {first.said[-700:]}")


def _damaged(bench: Bench, times: int, harm: Callable[[Path], None]) -> Figures:
    figures: Figures = {}
    for _ in range(times):
        run = copy_of(bench.reference(), bench.folder("damaged"))
        files = sorted(path for path in (run / NEWEST).rglob("*") if path.is_file())
        file = files[int(bench.rng.integers(len(files)))]
        harm(file)
        _goes_on(bench, run, file.name, "damaged: ")
        figures[file.name] = figures.get(file.name, 0) + 1
    return figures


def _goes_on(bench: Bench, run: Path, what: str, words: str) -> None:
    """The run is resumed from the checkpoint before the damaged one, says so, and ends as if nothing had been."""
    before, kept = log_lines(run), newest_whole(run)
    start = bench.complete(run)
    if words not in start.said:
        raise Fault(f"{what}: nothing was said of it: {start.said[-700:]}")
    if log_lines(run)[:kept] != before[:kept]:
        raise Fault(f"{what}: steps before the checkpoint of step {kept} were computed again")
    require_equal(run, bench.reference())


def copy_of(run: Path, to: Path, last: int = STEPS) -> Path:
    """A copy of a run as it was after its checkpoint of step `last`."""
    shutil.copytree(run, to)
    for step in range(last + EVERY, STEPS + 1, EVERY):
        shutil.rmtree(to / "checkpoints" / f"step_{step:08d}")
    return to


def fingerprint(folder: Path) -> dict[str, str]:
    """SHA-256 and time of change of every file; of the lock, which a start that is refused held, the content alone."""
    return {
        str(
            path
        ): f"{0 if path.name == LOCK else path.stat().st_mtime_ns} {sha256(path.read_bytes()).hexdigest()}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
