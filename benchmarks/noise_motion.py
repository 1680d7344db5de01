"""Can motion be learned where every frame is noise? An encoder trained here on such videos, and what single frames of others tell it.

    OMP_NUM_THREADS=1 python benchmarks/noise_motion.py [--seeds 3] [--steps 300]

For each seed: 400 videos of drifting noise are rendered, the small 3-D convolutional network of `vidssl demo` is trained on them without
labels by its recipe (SSL-HSIC, 300 steps), and `vidssl temporal` asks it and the network it began as on 240 other videos. Written to
benchmarks/results/noise_motion.{md,json,png}.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from vidssl.config import load_config
from vidssl.environment import environment
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.dynamics.plots import DPI
from vidssl.evaluation.temporal.report import temporal
from vidssl.evaluation.temporal.show import questions_of, temporal_figure
from vidssl.files import whole_file, write_json, write_text
from vidssl.synthetic.noise import write_noise_dataset
from vidssl.training import pretrain

RESULTS = Path(__file__).parent / "results"


def measure(seed: int, steps: int, clips: int) -> dict[str, Any]:
    """Train on rendered noise and ask on other noise; the result, with the CPU seconds of both."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, started = Path(scratch), time.process_time()
        write_noise_dataset(folder / "videos", 100, 0, frames=48, shots=6, seed=1000 + seed)
        given = {"output": folder / "run", "seed": seed, "data.train": folder / "videos" / "train"}
        given |= {"train.steps": steps, "train.checkpoint_every": steps}
        run = pretrain(load_config("demo", [f"{key}={value}" for key, value in given.items()]))
        trained = time.process_time()
        options = EvalOptions(workers=0, batch_size=60, device="cpu", cache=False)
        result = temporal(run, clips=clips, seed=seed, options=options)
        result |= {"checkpoint": "trained here", "loaded": "trained here"}
        return {"seed": seed, "train_cpu_seconds": trained - started, "temporal_cpu_seconds": time.process_time() - trained, "result": result}  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """Accuracies of each seed, in per cent; mean ± standard deviation where there are several."""
    scores = [row["result"]["scores"] for row in rows]
    lines = [f"| | trained, {len(rows)} seeds | untrained | chance |", "|---|---|---|---|"]
    for question in questions_of(rows[0]["result"]):
        cells = []
        for encoder in ("trained", "untrained"):
            found = [100 * one[f"{encoder}, {question}"]["top1"] for one in scores]
            spread = f" ± {statistics.stdev(found):.1f}" if len(found) > 1 else ""
            cells.append(f"{statistics.mean(found):.1f}{spread} ({', '.join(f'{x:.1f}' for x in found)})")
        chance = 100 * scores[0][f"chance, {question.partition(',')[0]}"]["top1"]
        lines.append(f"| {question} | {' | '.join(cells)} | {chance:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure all seeds, writing after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--clips", type=int, default=60, help="of each of the four classes that are asked")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for seed in range(chosen.seeds):
        rows.append(measure(seed, chosen.steps, chosen.clips))
        cost = statistics.mean(row["train_cpu_seconds"] for row in rows)
        text = (
            "Made by `OMP_NUM_THREADS=1 python benchmarks/noise_motion.py`: accuracy in per cent on 240 videos a seed, mean ± standard "
            f"deviation over seeds (each). Training: {cost:.0f} s of one CPU core, {chosen.steps} steps, rendering included.\n\n"
        )
        write_text(RESULTS / "noise_motion.md", f"# Motion in noise\n\n{text}{table(rows)}\n")
        write_json(RESULTS / "noise_motion.json", {"runs": rows, "environment": environment()})
        with whole_file(RESULTS / "noise_motion.png") as partial:
            temporal_figure(rows[0]["result"]).savefig(partial, dpi=DPI, format="png")
        print(table(rows))


if __name__ == "__main__":
    main()
