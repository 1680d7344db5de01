"""Disturbed runs: every one must end with the weights of a run that was never disturbed, to the last bit.

    OMP_NUM_THREADS=1 python benchmarks/faults.py --quick
    OMP_NUM_THREADS=1 python benchmarks/faults.py --write
    OMP_NUM_THREADS=1 python benchmarks/faults.py --only kill_main=5 two_starts=1

Tiny runs (a CLIP of two blocks on rendered videos, 12 steps, a checkpoint every 3) are started as users start them, and
killed, told to stop, given files that crash or hang their decoder, a full disk, damaged checkpoints, a second start in their
folder. None may hang, lose more steps than lie between three checkpoints (one may be being written), or leave a process or a partial file. The table
goes to standard output; --write also puts it into benchmarks/results/faults.{json,md}. The exit code is 1 when a row fails.

Two processes are two gloo ranks under `accelerate launch`. What kills and where is drawn from --seed; when a signal arrives
within a step depends on the machine.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from harm import machine, processes, readers, videos  # noqa: E402
from harm.runs import STEPS, Bench, Fault, require_equal  # noqa: E402, F401

RESULTS = ROOT / "benchmarks/results"
ODD = ROOT.parent / "shared/data/odd_videos"
Case = Callable[[Bench, int], dict[str, Any]]


def cases(odd: Path) -> dict[str, tuple[Case, int, int]]:
    """Name -> what is done, how often in full, how often with --quick (0: not)."""
    return {
        "kill_main": (processes.kill_main, 14, 3),
        "behind": (processes.behind, 4, 1),
        "kill_workers": (processes.kill_workers, 8, 2),
        "stop_group": (processes.stop_group, 8, 1),
        "crashing_files": (processes.crashing_files, 10, 2),
        "hanging_workers": (processes.hanging_workers, 5, 1),
        "full_disk": (machine.full_disk, 3, 1),
        "file_size_limit": (machine.file_size_limit, 4, 1),
        "small_file_system": (machine.small_file_system, 1, 0),
        "torn": (machine.torn, 4, 1),
        "flipped": (machine.flipped, 4, 1),
        "lost": (machine.lost, 4, 0),
        "all_damaged": (machine.all_damaged, 1, 1),
        "two_starts": (machine.two_starts, 1, 0),
        "corruptions": (videos.corruptions, 300, 30),
        "kill_rank": (processes.kill_rank, 8, 0),
        "stop_group_of_two": (processes.stop_group_of_two, 2, 0),
        "odd_videos": (functools.partial(videos.odd_videos, folder=odd), 1000, 20),
        **{
            f"damaged_{kind.replace(', ', '_').replace(' ', '_')}": (
                functools.partial(readers.damaged, kind=kind),
                300,
                20,
            )
            for kind in readers.KINDS
        },
    }


def main() -> None:
    """Disturb runs, print what became of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a handful of each")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME[=TIMES]", help="these rows")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--odd-videos", type=Path, default=ODD, help="folder of odd and broken videos")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/faults.{json,md}")
    arguments = parser.parse_args()
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(143)
    )  # so that what was mounted and started is cleared away
    table = cases(arguments.odd_videos)
    times = {name: quick if arguments.quick else full for name, (_, full, quick) in table.items()}
    if arguments.only:
        wanted = dict(item.partition("=")[::2] for item in arguments.only)
        if unknown := wanted.keys() - table.keys():
            parser.error(f"{', '.join(sorted(unknown))}: unknown (allowed: {', '.join(table)})")
        times = {name: int(wanted[name] or table[name][1]) if name in wanted else 0 for name in table}
    rows: list[dict[str, Any]] = []
    wanted_cases = {name: (table[name][0], count) for name, count in times.items() if count}
    for row in run_cases(wanted_cases, arguments.seed):
        rows.append(row)
        if arguments.write:  # after each, so that a long run that is ended has something to show
            write(rows, list(table), arguments.seed)
    print(report(rows, arguments.seed, len(wanted_cases)))
    if any(row["failure"] for row in rows):
        sys.exit(1)


def run_cases(wanted: dict[str, tuple[Case, int]], seed: int) -> Iterator[dict[str, Any]]:
    """One row a case, as it is done: name, what it does, times, figures, failure (or None), seconds."""
    with tempfile.TemporaryDirectory(prefix="vidssl-faults-") as root:
        bench = Bench(Path(root), np.random.default_rng(seed))
        for number, (name, (case, times)) in enumerate(wanted.items()):
            bench.rng = np.random.default_rng([seed, number])
            began, failure, figures = time.monotonic(), None, {}
            starts = bench.starts
            try:
                figures = case(bench, times)
            except Fault as fault:
                failure = str(fault)
            doc = (case.func if isinstance(case, functools.partial) else case).__doc__ or ""
            row = {
                "name": name,
                "what": " ".join(doc.split()),
                "figures": figures,
                "failure": failure,
                "starts": bench.starts - starts,
                "seconds": round(time.monotonic() - began, 1),
            }
            print(
                f"{name}: {failure or 'passed'} {figures} ({row['seconds']} s)", file=sys.stderr, flush=True
            )
            yield row


def report(rows: list[dict[str, Any]], seed: int, wanted: int) -> str:
    """The table in Markdown."""
    lines = ["| fault | what | figures | outcome | seconds |", "|---|---|---|---|---|"]
    for row in rows:
        figures = "; ".join(f"{name}: {value}" for name, value in row["figures"].items())
        outcome = (
            "passed" if row["failure"] is None else f"**failed**: {' '.join(row['failure'].split())[:300]}"
        )
        cells = (row["name"], row["what"], figures, outcome, row["seconds"])
        lines.append("| " + " | ".join(str(cell).replace("|", "/") for cell in cells) + " |")
    failed = sum(row["failure"] is not None for row in rows)
    lines += ["", f"{len(rows)} of {wanted} kinds of faults were tried, {failed} failed; seed {seed}."]
    return "\n".join(lines)


def write(new: list[dict[str, Any]], names: list[str], seed: int) -> None:
    """The results with the command, the commit and the machine; rows that were not tried stay, with the commit they had."""
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    file = RESULTS / "faults.json"
    earlier = json.loads(file.read_text()) if file.is_file() else {"rows": []}
    known = {row["name"]: {"commit": earlier.get("commit"), **row} for row in earlier["rows"]}
    known |= {row["name"]: {**row, "commit": commit} for row in new}
    rows = [known[name] for name in names if name in known]
    commits = ", ".join(dict.fromkeys(str(row["commit"]) for row in rows))
    where = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    command = "OMP_NUM_THREADS=1 python benchmarks/faults.py --write"
    record = {"command": command, "commit": commit, "machine": where, "seed": seed, "rows": rows}
    RESULTS.mkdir(exist_ok=True)
    file.write_text(json.dumps(record, indent=2) + "\n")
    head = f"# Disturbed runs\n\n`{command}` at commits {commits} on {where}, shared with other work.\n\n"
    (RESULTS / "faults.md").write_text(f"{head}{report(rows, seed, len(names))}\n")


if __name__ == "__main__":
    main()
