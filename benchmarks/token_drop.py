"""What a training step costs when tokens are dropped: CPU time and memory of a ViT-B/16 against the rate.

A step is forward, backward and AdamW of the encoder with random weights, on one thread; CPU time of the process, so that
other programs on the machine matter little. The teacher is the forward pass of the same encoder without gradient on all
tokens (or, in the last column, on those that the student keeps). Its floor is that pass alone and the share (1 - rate) of the
student's whole step: no dropping in the student can come below.

    OMP_NUM_THREADS=1 python benchmarks/token_drop.py --output benchmarks/results/token_drop
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import torch

import vidssl

RATES = (0.0, 0.5, 0.75, 0.9, 0.95)


def cell(mode: str, rate: float, frames: int, size: int, repeats: int) -> dict[str, Any]:
    """Seconds of CPU time of a student's step, and of the teacher's pass on all and on the kept tokens; least of `repeats`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options: dict[str, Any] = {"token_drop": rate, "image_size": size, "load_text": False}
    if mode == "joint":
        options["causal"] = True
    encoder = vidssl.create_model("ViT-B-16", temporal=mode, **options)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-5)
    clips = torch.randn(1, 3, frames, size, size)

    def student(step: int) -> None:
        optimizer.zero_grad()
        encoder(clips, keys=torch.tensor([step])).clip.square().sum().backward()
        optimizer.step()

    @torch.no_grad()
    def teacher(_: int) -> None:
        encoder(clips)

    @torch.no_grad()
    def dropping_teacher(step: int) -> None:
        encoder(clips, keys=torch.tensor([step]))

    student(0)  # allocates the optimiser's state
    seconds = {"student": _least(student, repeats)}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds |= {"teacher": _least(teacher, repeats), "dropping teacher": _least(dropping_teacher, repeats)}
    return {"mode": mode, "rate": rate, **seconds, "MiB": memory}


def _least(function: Any, repeats: int) -> float:
    times = []
    for step in range(repeats):
        started = time.process_time()
        function(step + 1)
        times.append(time.process_time() - started)
    return min(times)


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; everything relative to the student's step without dropping in the same mode."""
    whole = {row["mode"]: row for row in rows if row["rate"] == 0}
    lines = [
        "| mode | rate | student's step, s | relative | peak MiB | with a teacher of all tokens | its floor | of its floor | teacher drops too |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        full = whole[row["mode"]]["student"]
        all_tokens = whole[row["mode"]]["teacher"]
        both, floor = row["student"] + all_tokens, all_tokens + (1 - row["rate"]) * full
        values = [
            f"{row['student']:.1f}", f"{row['student'] / full:.3f}", f"{row['MiB']:.0f}", f"{both / full:.3f}",
            f"{floor / full:.3f}", f"{both / floor:.2f}", f"{(row['student'] + row['dropping teacher']) / full:.3f}",
        ]  # fmt: skip
        lines.append(f"| {row['mode']} | {row['rate']:g} | " + " | ".join(values) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure every cell in a process of its own, so that peaks of memory are its own; write JSON and Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modes", nargs="+", default=["joint", "divided", "none"])
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    rows = []
    for mode in arguments.modes:
        for rate in arguments.rates:
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                size = (arguments.frames, arguments.size, arguments.repeats)
                rows.append(pool.apply(cell, (mode, rate, *size)))
            print(json.dumps(rows[-1]), flush=True)
            arguments.output.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n")
    text = f"# Token dropping\n\n{arguments.frames} frames of {arguments.size} pixels, batch 1, ViT-B/16, float32, one thread, least of {arguments.repeats}.\n\n{table(rows)}\n"
    arguments.output.with_suffix(".md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
