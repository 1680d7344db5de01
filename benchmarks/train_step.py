"""Where a training step goes: its parts by time, memory and FLOPs, and the encoder beside the one of transformers.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py                      # ViT-S/16 at 8 x 112², the parts
    OMP_NUM_THREADS=1 python benchmarks/train_step.py --peer               # divided ViT-B/16 beside TimeSformer

Times are CPU seconds of the process, of one thread, medians over steps after the first; all that is decoded is decoded in the process
(`data`; a run has workers for it). `share` is that of the whole step without data. What is not `student`, `teacher` and `backward` is overhead:
views, objective, guard, optimiser, moving average, log. Random weights, rendered videos. Written to benchmarks/results/train_step.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

import vidssl
from vidssl.config import validate_config
from vidssl.synthetic.motions import write_sprite_dataset
from vidssl.training import loop
from vidssl.training.accelerator import make_accelerator
from vidssl.training.report import Report
from vidssl.training.setup import set_up
from vidssl.training.stop import stop_on_signal

RESULTS = Path(__file__).parent / "results" / "train_step.json"
NETWORKS = ("student", "teacher", "backward")


class Parts:
    """CPU seconds by part; what is called inside another part counts there no more."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside: list[float] = []

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, whose time is counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            started = time.process_time()
            self._inside.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                whole = time.process_time() - started
                self.seconds[name] += whole - self._inside.pop()
                if self._inside:
                    self._inside[-1] += whole

        return call


def parts(size: int, frames: int, batch: int, steps: int, model: str) -> dict[str, Any]:
    """A run of SSL-HSIC with its teacher, step by step."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_sprite_dataset(folder, classes=("growing", "shrinking"), clips_per_class_train=batch, clips_per_class_val=1, frames=24, size=160)  # fmt: skip
        recipe = {
            "output": str(folder / "run"),
            "data": {"train": str(folder / "train"), "decode_size": 160, "workers": 0, "check": False},
            "views": [{"frames": frames, "size": size, "seconds": 0.8}],
            "model": {"name": model, "options": {"image_size": size}},
            "objective": {"hsic": {"estimator": "exact"}},
            # The first ten steps are always logged: what follows is what a run is made of.
            "train": {
                "batch_size": batch,
                "steps": 11 + steps,
                "log_every": 1000,
                "checkpoint_every": 1000,
                "precision": "fp32",
            },
        }
        config = validate_config(recipe, "recipe")
        run, counted, rows = set_up(config, make_accelerator(config)), Parts(), []
        run.step = run.sampler.start_step = 10
        run.render = counted.timed("views", run.render)  # type: ignore[method-assign]
        run.model.forward = counted.timed("student", run.model.forward)
        run.teacher.forward = counted.timed("teacher", run.teacher.forward)
        run.teacher.update = counted.timed("moving average", run.teacher.update)  # type: ignore[method-assign]
        run.objective.forward = counted.timed("objective", run.objective.forward)
        run.optimizer.step = counted.timed("optimiser", run.optimizer.step)  # type: ignore[method-assign]
        run.accelerator.backward = counted.timed("backward", run.accelerator.backward)
        loop.gradient_norms = counted.timed("gradient norms", loop.gradient_norms)
        loop.BeforeStep = counted.timed("guard", loop.BeforeStep)  # type: ignore[assignment, misc]
        with closing(run), closing(Report(run)) as report, stop_on_signal(run.accelerator) as request, closing(run.batches()) as batches:  # fmt: skip
            while run.step < run.total_steps - 1:
                counted.seconds.clear()
                started = time.process_time()
                data, waited = next(batches)
                decoded = time.process_time() - started
                logs = counted.timed("rest of the step", loop.train_step)(run, data, report)
                counted.timed("log", report.step)(data, logs, waited, 1.0)
                counted.timed("log", request.anywhere)()
                rows.append({**counted.seconds, "data": decoded})
            with FlopCounterMode(display=False) as flops:
                loop.train_step(run, data, report)
        found = {name: statistics.median(row[name] for row in rows[1:]) for name in rows[-1]}
        whole = sum(seconds for name, seconds in found.items() if name != "data")
        overhead = whole - sum(found[name] for name in NETWORKS)
        clips = batch * len(run.views) * run.views[0].count
        return {
            "model": model, "size": size, "frames": frames, "batch": batch, "steps": len(rows) - 1,
            "seconds": {name: round(value, 4) for name, value in sorted(found.items(), key=lambda item: -item[1])},
            "share": {name: round(value / whole, 4) for name, value in found.items() if name != "data"},
            "spread of the step": [round(f(sum(v for k, v in row.items() if k != "data") for row in rows[1:]), 3) for f in (min, max)],
            "overhead": round(overhead / whole, 4),
            "overhead ms a clip": round(1000 * overhead / clips, 2),
            "GFLOP": round(flops.get_total_flops() / 1e9, 1),
            "peak memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip


def peer(frames: int, size: int, repeats: int) -> dict[str, Any]:
    """Forward and backward of one clip: our divided ViT-B/16 and transformers' TimeSformer of its size, in turn."""
    from transformers import TimesformerConfig, TimesformerModel

    torch.manual_seed(0)
    ours = vidssl.create_model("ViT-B-16", temporal="divided", load_text=False).train()
    theirs = TimesformerModel(TimesformerConfig(num_frames=frames, image_size=size)).train()
    clips = torch.randn(1, 3, frames, size, size)
    calls: dict[str, tuple[torch.nn.Module, Callable[[], torch.Tensor]]] = {
        "vidssl": (ours, lambda: ours(clips).clip.square().mean()),
        "transformers": (
            theirs,
            lambda: theirs(clips.transpose(1, 2)).last_hidden_state[:, 0].square().mean(),
        ),
    }
    taken: dict[str, list[float]] = defaultdict(list)
    for _ in range(repeats + 1):
        for name, (module, loss) in calls.items():
            module.zero_grad(set_to_none=True)
            started = time.process_time()
            loss().backward()  # type: ignore[no-untyped-call]
            taken[name].append(time.process_time() - started)
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    return {
        "parameters M": {name: round(sum(p.numel() for p in module.parameters()) / 1e6, 1) for name, (module, _) in calls.items()},
        "seconds": {name: [round(value, 2) for value in values] for name, values in taken.items()},
        "faster": round(seconds["transformers"] / seconds["vidssl"], 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", default="timm/vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--peer", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.peer:
        key, found = "peer", peer(arguments.frames, 224, 2)
    else:
        key = "parts"
        found = parts(arguments.size, arguments.frames, arguments.batch, arguments.steps, arguments.model)
    print(json.dumps(found, indent=1))
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**before, key: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
