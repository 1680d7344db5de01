"""One thread or two for a training step, beside other programs: wall time of a step in turn, in one run.

    python benchmarks/threads.py                 # a minute on two cores; 0, 1 and 2 busy loops beside it

A step is forward, backward and AdamW of a small image transformer on a clip. The number of threads changes from step to step, so that what
else runs on the machine meets both alike. Written to benchmarks/results/threads.json.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path
from typing import Any

import torch

import vidssl
from vidssl.threads import computing_with, look_at_cores

RESULTS = Path(__file__).parent / "results" / "threads.json"


def spin() -> None:
    """Keep a core busy."""
    while True:
        pass


def seconds(threads: list[int], repeats: int, size: int) -> dict[int, list[float]]:
    """Wall seconds of single steps."""
    torch.manual_seed(0)
    encoder = vidssl.create_model("timm/vit_tiny_patch16_224", temporal="divided", image_size=size)
    optimizer = torch.optim.AdamW(encoder.parameters())
    clips = torch.randn(2, 3, 4, size, size)
    taken: dict[int, list[float]] = {count: [] for count in threads}
    for _ in range(repeats + 1):
        for count in threads:
            with computing_with(count):
                started = time.perf_counter()
                encoder(clips).clip.square().mean().backward()
                optimizer.step()
                optimizer.zero_grad()
                taken[count].append(time.perf_counter() - started)
    return {count: values[1:] for count, values in taken.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--beside", type=int, nargs="+", default=[0, 1, 2], help="busy loops")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", type=int, default=64)
    arguments = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for count in arguments.beside:
        others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(count)]
        for other in others:
            other.start()
        try:
            cores = look_at_cores(1.0)
            taken = seconds(arguments.threads, arguments.repeats, arguments.size)
        finally:
            for other in others:
                other.terminate()
        medians = {threads: statistics.median(values) for threads, values in taken.items()}
        rows.append(
            {
                "busy loops": count,
                "cores": cores.usable,
                "busy cores": round(cores.busy, 2),
                "seconds": {
                    threads: [round(value, 3) for value in values] for threads, values in taken.items()
                },
                "of one thread": {
                    threads: round(value / medians[arguments.threads[0]], 2)
                    for threads, value in medians.items()
                },
            }
        )
        print(json.dumps(rows[-1]), flush=True)
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
