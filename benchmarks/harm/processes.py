"""Runs whose processes are killed, told to stop, crashed by a file, or held up."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from harm.runs import (
    EVERY,
    LIMIT,
    STEPS,
    Bench,
    Fault,
    Start,
    log_lines,
    newest_whole,
    require_equal,
    steps_logged,
)

CRASHES = ("SIGSEGV", "SIGABRT", "exit", "SIGBUS", "SIGFPE")
Figures = dict[str, Any]


def await_moment(bench: Bench, run: Path, start: Start, phase: str) -> bool:
    """Wait for a random moment of a start; False when the start ended before.

    Args:
        phase: "begin" (before the first step), "step", or "checkpoint" (while one is being written).
    """
    if phase == "begin":
        until = time.monotonic() + float(bench.rng.uniform(0.2, 1)) * bench.begin
        return start.wait_for(lambda: time.monotonic() > until, 60, "never")
    done = newest_whole(run)
    if phase == "checkpoint":
        target = min(done + EVERY * int(bench.rng.integers(1, 3)), STEPS)
        partial = run / "checkpoints" / f".step_{target:08d}.partial"
        there = start.wait_for(partial.exists, LIMIT, f"step {target} has no checkpoint")
        time.sleep(float(bench.rng.uniform(0, 0.15)))
    else:
        target = min(done + int(bench.rng.integers(1, 6)), STEPS - 1)
        there = start.wait_for(
            lambda: bool(steps_logged(run)) and steps_logged(run)[-1] >= target > done,
            LIMIT,
            f"no step {target}",
        )
        time.sleep(float(bench.rng.uniform(0, 0.2)))
    return there and start.running()


def steps_lost(run: Path, before: list[str], kept: int) -> int:
    """Steps that a disturbed run has to repeat, after looking that it did not repeat those before the last checkpoint.

    Two intervals at most: a run goes on while a checkpoint is written, and waits for it where the next one is due.

    Args:
        before: the log's lines when the start began.
        kept: the step of the newest whole checkpoint then. The lines up to it must still be there as they were: they hold
            times, so a step that was computed again has another.

    Raises:
        Fault: when more are lost.
    """
    now = log_lines(run)
    if now[:kept] != before[:kept]:
        raise Fault(f"steps before the checkpoint of step {kept} were computed again")
    lost = (steps_logged(run) or [0])[-1] - newest_whole(run)
    if lost > 2 * EVERY:
        raise Fault(f"{lost} steps are lost, with a checkpoint every {EVERY}")
    return lost


def kill_main(bench: Bench, times: int) -> Figures:
    """SIGKILL to the process itself; its workers must go with it. Every third moment is in the writing of a checkpoint."""
    return _kill(bench, times, 1, lambda start: psutil.Process(start.process.pid))


def kill_rank(bench: Bench, times: int) -> Figures:
    """SIGKILL to the second of two processes; the launcher must end the first."""
    return _kill(bench, times, 2, lambda start: start.rank(1))


def _kill(bench: Bench, times: int, processes: int, victim: Any) -> Figures:
    name = "undisturbed" if processes == 1 else f"undisturbed_{processes}_processes"
    reference = bench.reference(name, processes=processes)
    killed, lost, phases = 0, [0], {"begin": 0, "step": 0, "checkpoint": 0}
    run = bench.folder("killed")
    while True:
        before, kept = log_lines(run), newest_whole(run)
        start = bench.start(run, processes=processes)
        if killed < times:
            phase = ("step", "checkpoint", "step", "checkpoint", "step", "begin")[killed % 6]
            if processes > 1 and phase == "begin":
                phase = "step"  # there is no second process yet
            if await_moment(bench, run, start, phase) and (process := victim(start)) is not None:
                process.send_signal(signal.SIGKILL)
                if start.end() == 0:
                    raise Fault("a killed run ended with exit code 0")
                killed += 1
                phases[phase] += 1
                lost.append(steps_lost(run, before, kept))
                continue
        code = start.end()
        if code != 0:
            raise Fault(f"exit code {code} after {killed} kills: {start.said[-1500:]}")
        steps_lost(run, before, kept)
        require_equal(run, reference)
        if killed >= times:
            return {"kills": killed, **phases, "most steps lost": max(lost)}
        run = bench.folder("killed")


def kill_workers(bench: Bench, times: int) -> Figures:
    """SIGKILL to a decoding process at random moments; the run goes on."""
    killed = 0
    while killed < times:
        killed += _kill_some_workers(bench, min(4, times - killed))
    return {"kills": killed}


def _kill_some_workers(bench: Bench, times: int) -> int:
    run, reference = bench.folder("workers_killed"), bench.reference()
    start, killed = bench.start(run), 0
    start.wait_for(lambda: bool(start.workers()), LIMIT, "no worker")
    for _ in range(times):
        time.sleep(float(bench.rng.uniform(0, 0.5)))
        if workers := start.workers():
            workers[int(bench.rng.integers(len(workers)))].kill()
            killed += 1
    if (code := start.end()) != 0:
        raise Fault(f"exit code {code}: {start.said[-1500:]}")
    require_equal(run, reference)
    return killed


def stop_group(bench: Bench, times: int, processes: int = 1) -> Figures:
    """SIGTERM to the whole process group: a checkpoint of the step at hand, the line, exit code 75 (of accelerate's launcher: not 0)."""
    # A launcher that is told to stop ends itself, with its own code, as long as it has started nobody.
    phases = ("step", "checkpoint", "step", "begin") if processes == 1 else ("step", "checkpoint")
    name = "undisturbed" if processes == 1 else f"undisturbed_{processes}_processes"
    reference = bench.reference(name, processes=processes)
    stopped, slowest = 0, 0.0
    run = bench.folder("stopped")
    while True:
        before, kept = log_lines(run), newest_whole(run)
        start = bench.start(run, processes=processes)
        if stopped < times and await_moment(bench, run, start, phases[stopped % len(phases)]):
            began = time.monotonic()
            os.killpg(start.process.pid, signal.SIGTERM)
            code = start.end()
            slowest = max(slowest, time.monotonic() - began)
            stopping = "vidssl: stopped " in start.said
            if not stopping and newest_whole(run) == STEPS:  # it had made its last step, and was leaving
                run = bench.folder("stopped")
                continue
            if (code != 75 if processes == 1 else code == 0) or not stopping:
                raise Fault(f"exit code {code} after SIGTERM: {start.said[-1500:]}")
            if lost := steps_lost(run, before, kept):
                raise Fault(f"{lost} steps were lost by SIGTERM")
            stopped += 1
            continue
        if (code := start.end()) != 0:
            raise Fault(f"exit code {code} after {stopped} SIGTERMs: {start.said[-1500:]}")
        require_equal(run, reference)
        if stopped >= times:
            return {"SIGTERMs": stopped, "slowest end, s": round(slowest, 1)}
        run = bench.folder("stopped")


def stop_group_of_two(bench: Bench, times: int) -> Figures:
    """The same for the launcher and both of its processes."""
    return stop_group(bench, times, processes=2)


def behind(bench: Bench, times: int) -> Figures:
    """SIGKILL, and SIGTERM, while a checkpoint is being written on a slow disk and steps after it have been made."""
    reference, lost, slowest = bench.reference(), [0], 0.0
    for _ in range(times):
        run = bench.folder("behind")
        for step, number in ((EVERY, signal.SIGKILL), (2 * EVERY, signal.SIGTERM)):
            before, kept = log_lines(run), newest_whole(run)
            start = bench.start(run, plan={"held": {"step": step, "seconds": 4.0}})
            later = step + int(bench.rng.integers(1, EVERY + 1))
            start.wait_for(partial(_has_logged, run, later), LIMIT, "no later step")
            if not (run / "checkpoints" / f".step_{step:08d}.partial").is_dir():
                raise Fault(
                    f"the checkpoint of step {step} is not being written while step {later} has been made"
                )
            began = time.monotonic()
            os.kill(start.process.pid, number)
            code = start.end()
            repeated = steps_lost(run, before, kept)
            if number == signal.SIGKILL:
                lost.append(repeated)
                if newest_whole(run) != kept:
                    raise Fault(
                        f"killed while writing step {step}: the newest checkpoint is that of step {newest_whole(run)}"
                    )
            elif code != 75 or repeated or "vidssl: stopped " not in start.said:
                raise Fault(f"exit code {code} after SIGTERM, {repeated} steps lost: {start.said[-1500:]}")
            else:
                slowest = max(slowest, time.monotonic() - began)
        bench.complete(run)
        require_equal(run, reference)
    return {
        "SIGKILLs": times,
        "most steps lost": max(lost),
        "SIGTERMs": times,
        "slowest end, s": round(slowest, 1),
    }


def _has_logged(run: Path, step: int) -> bool:
    return (steps_logged(run) or [0])[-1] >= step


def crashing_files(bench: Bench, files: int) -> Figures:
    """Files whose decoder crashes: they are named and replaced as if they could not be read; half of them slip the check."""
    figures: Figures = {}
    for number, check in enumerate((False, True)):
        names = _some_videos(bench, files // 2 or 1, number)
        guilty = {name: (CRASHES[place % len(CRASHES)], 10**9) for place, name in enumerate(names)}
        figures["checked before" if check else "met in training"] = _with_bad_files(bench, guilty, check)
    return figures


def hanging_workers(bench: Bench, workers: int) -> Figures:
    """Decoding processes that hang: two at a file every time, one at a file once, one stopped (SIGSTOP), and one while the run
    is told to stop."""
    figures: Figures = {}
    names = _some_videos(bench, 3, 7)
    if workers >= 3:
        guilty = {names[0]: ("hang", 10**9), names[1]: ("hang", 10**9), names[2]: ("hang", 1)}
        figures["at a file"] = _with_bad_files(bench, guilty, False, deadline=3.0, between=60.0)
    reference = bench.reference()
    if workers >= 2:
        run = bench.folder("worker_stopped")
        start = bench.start(run, plan={"deadline": 5.0, "between": 5.0})
        if not start.wait_for(lambda: len(steps_logged(run)) > 2, LIMIT, "no step") or not start.workers():
            raise Fault(f"the run has no worker: {start.said[-1500:]}")
        start.workers()[0].send_signal(signal.SIGSTOP)
        if (code := start.end()) != 0:
            raise Fault(f"exit code {code} with a stopped worker: {start.said[-1500:]}")
        require_equal(run, reference)
        figures["stopped"] = 1
    run, tries = bench.folder("hangs_and_stops"), _tries(bench)
    plan = {"open": {names[0]: ("hang", 1)}, "tries": str(tries), "deadline": 5.0, "between": 60.0}
    start = bench.start(run, "data.check=false", plan=plan)
    start.wait_for((tries / names[0]).exists, LIMIT, "the file was not opened")
    start.wait_for(lambda: (run / "log.jsonl").exists(), LIMIT, "no log")
    time.sleep(0.5)
    began = time.monotonic()
    os.killpg(start.process.pid, signal.SIGTERM)
    code = start.end(60)
    seconds = time.monotonic() - began
    if code != 75 or "vidssl: stopped after step" not in start.said:
        raise Fault(f"exit code {code} after SIGTERM while a worker hung: {start.said[-1500:]}")
    bench.complete(run, "data.check=false")
    require_equal(run, reference)
    return {**figures, "while told to stop": 1, "SIGTERM to end, s": round(seconds, 1)}


def _with_bad_files(
    bench: Bench, guilty: dict[str, tuple[str, int]], check: bool, **limits: float
) -> Figures:
    """A run over files that harm the process that opens them, against one in which these are no videos at all."""
    option, always = (
        f"data.check={str(check).lower()}",
        [name for name, (_, times) in guilty.items() if times > 1],
    )
    spoilt = bench.spoilt_videos(always)
    reference = bench.reference(f"unreadable_{'_'.join(always)}_{check}", option, f"data.train={spoilt}")
    run, tries = bench.folder("bad_files"), _tries(bench)
    own = bench.spoilt_videos([])  # of which no earlier check has found that they can be read
    plan = {"open": guilty, "tries": str(tries), **limits}
    start = bench.complete(run, option, f"data.train={own}", plan=plan)
    require_equal(run, reference)
    rows = [path.read_text() for path in run.glob("quarantine*")]
    unnamed = [name for name in always if not any(name in text for text in rows)]
    if unnamed:
        raise Fault(f"not in the quarantine file: {unnamed}")
    if untried := [name for name in guilty if not (tries / name).exists()]:
        raise Fault(f"the files {untried} were never opened; {start.said[-300:]}")
    lost = sum(min((tries / name).stat().st_size, times) for name, (_, times) in guilty.items())
    return {"files": len(guilty), "processes lost": lost}


def _tries(bench: Bench) -> Path:
    folder = bench.folder("tries")
    folder.mkdir(parents=True)
    return folder


def _some_videos(bench: Bench, count: int, stream: int) -> list[str]:
    """Names of different videos, of which no other call with another stream gets the same."""
    names = sorted(path.stem for path in bench.videos.rglob("*.mp4"))
    step = len(names) // 12
    return [names[(stream + 5 * place * max(step // 2, 1)) % len(names)] for place in range(count)]
