"""Where a training step goes: its parts by time, memory and FLOPs, and the encoder beside the one of transformers.

    OMP_NUM_THREADS=1 python benchmarks/train_step.py                                    # ViT-S/16 at 8 x 112², the parts
    ACCELERATE_USE_CPU=1 torchrun --nproc_per_node 2 benchmarks/train_step.py            # the same on two processes; times of the first
    OMP_NUM_THREADS=1 python benchmarks/train_step.py --part peers --steps 3             # divided ViT-B/16 beside TimeSformer and others
    OMP_NUM_THREADS=1 python benchmarks/train_step.py --part lightly --batch 2 --steps 3 # our step beside lightly's loop

Times are CPU seconds of the process, of one thread, medians over steps after the first; all that is decoded is decoded in the process
(`data`; a run has workers for it). `share` is that of the whole step without data. What is not `student`, `teacher` and `backward` is overhead:
views, objective, guard, optimiser, moving average, log. Random weights, rendered videos. Written to benchmarks/results/train_step.json.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import json
import os
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
from vidssl.training.recipes.dry_run import Saved
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


def recipe_of(folder: Path, frames: int, size: int, batch: int, steps: int, model: str) -> dict[str, Any]:
    """SSL-HSIC with its teacher on rendered videos, which are written."""
    write_sprite_dataset(folder, classes=("growing", "shrinking"), clips_per_class_train=batch, clips_per_class_val=1, frames=24, size=160)  # fmt: skip
    return {
        "output": str(folder / "run"),
        "data": {"train": str(folder / "train"), "decode_size": 160, "workers": 0, "check": False},
        "views": [{"frames": frames, "size": size, "seconds": 0.8}],
        "model": {"name": model, "options": {"image_size": size}},
        "objective": {"hsic": {"estimator": "exact"}},
        # The first ten steps are always logged: what follows is what a run is made of.
        "train": {
            "batch_size": batch,
            "steps": steps,
            "log_every": 1000,
            "checkpoint_every": 1000,
            "precision": "fp32",
        },
    }


def parts(size: int, frames: int, batch: int, steps: int, model: str) -> dict[str, Any]:
    """A run of SSL-HSIC with its teacher, step by step."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        config = validate_config(recipe_of(folder, frames, size, batch, 11 + steps, model), "recipe")
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
            "processes": run.accelerator.num_processes,
            "GFLOP": round(flops.get_total_flops() / 1e9, 1),
            "GFLOP/s": round(flops.get_total_flops() / 1e9 / whole, 1),
            "GFLOP/s of products": round(product_rate(), 1),
            "peak memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }  # fmt: skip


def product_rate(side: int = 1024, times: int = 8) -> float:
    """GFLOP a CPU second of a product of square float32 matrices, the best of some: what one thread can do at most."""
    x, taken = torch.ones(side, side), []
    for _ in range(times):
        started = time.process_time()
        x @ x
        taken.append(time.process_time() - started)
    return 2e-9 * side**3 / min(taken)


Call = tuple[torch.nn.Module, Callable[[], torch.Tensor]]


def in_turn(calls: dict[str, Call], repeats: int) -> dict[str, Any]:
    """Forward and backward of each in turn: CPU seconds, FLOPs, bytes that are kept for the backward pass."""
    taken: dict[str, list[float]] = defaultdict(list)
    gflop, kept = {}, {}
    for name, (_, loss) in calls.items():
        saved = Saved()
        with (
            FlopCounterMode(display=False) as flops,
            torch.autograd.graph.saved_tensors_hooks(saved.pack, saved.unpack),
        ):
            loss().backward()  # type: ignore[no-untyped-call]
        gflop[name], kept[name] = flops.get_total_flops() / 1e9, saved.bytes
    for _ in range(repeats):
        for name, (module, loss) in calls.items():
            module.zero_grad(set_to_none=True)
            started = time.process_time()
            loss().backward()  # type: ignore[no-untyped-call]
            taken[name].append(time.process_time() - started)
    seconds = {name: statistics.median(values) for name, values in taken.items()}
    own, *_ = seconds.values()
    return {
        name: {
            "parameters M": round(sum(p.numel() for p in module.parameters()) / 1e6, 1),
            "seconds": [round(value, 2) for value in taken[name]],
            "of the first": round(seconds[name] / own, 3),
            "GFLOP": round(gflop[name], 1),
            "activations MiB": round(kept[name] / 2**20),
            "GFLOP/s": round(gflop[name] / seconds[name], 1),
        }
        for name, (module, _) in calls.items()
    }


def peers(frames: int, size: int, repeats: int) -> dict[str, Any]:
    """One clip through our divided ViT-B/16, transformers' TimeSformer of its size, ours with .9 of the tokens dropped, and open_clip's
    tower frame by frame."""
    import open_clip
    from transformers import TimesformerConfig, TimesformerModel

    torch.manual_seed(0)
    options = {"temporal": "divided", "load_text": False, "image_size": size}
    ours = vidssl.create_model("ViT-B-16", **options).train()
    dropping = vidssl.create_model("ViT-B-16", token_drop=0.9, **options).train()
    theirs = TimesformerModel(TimesformerConfig(num_frames=frames, image_size=size)).train()
    image = open_clip.create_model("ViT-B-16", force_image_size=size).visual.train()
    clips = torch.randn(1, 3, frames, size, size)
    key = torch.tensor([1])
    calls: dict[str, Call] = {
        "vidssl, divided": (ours, lambda: ours(clips).clip.square().mean()),
        "transformers TimeSformer": (theirs, lambda: theirs(clips.transpose(1, 2)).last_hidden_state[:, 0].square().mean()),
        "vidssl, .9 dropped": (dropping, lambda: dropping(clips, keys=key).clip.square().mean()),
        "open_clip, each frame": (image, lambda: image(clips[0].transpose(0, 1)).mean(dim=0).square().mean()),
    }  # fmt: skip
    return {
        "frames": frames,
        "size": size,
        "clips": 1,
        "GFLOP/s of products": round(product_rate(), 1),
        "forward and backward": in_turn(calls, repeats),
    }


def beside_lightly(frames: int, size: int, batch: int, repeats: int, model: str) -> dict[str, Any]:
    """Two views of each clip through an encoder, a projector and InfoNCE, with AdamW: our step, and lightly's parts in the loop of its examples."""
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    with tempfile.TemporaryDirectory() as place:
        recipe = recipe_of(Path(place), frames, size, batch, 12 + 2 * repeats, model)
        recipe["objective"] = {"infonce": {"projector": [384, 128]}}
        config = validate_config(recipe, "recipe")
        run = set_up(config, make_accelerator(config))
        run.step = run.sampler.start_step = 10
        encoder, head = (
            copy.deepcopy(run.student.encoder),
            SimCLRProjectionHead(run.student.encoder.embed_dim, 384, 128),
        )
        optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=1e-3, fused=True)
        criterion, taken = NTXentLoss(temperature=0.1), defaultdict[str, list[float]](list)
        with closing(run), closing(Report(run)) as report, closing(run.batches()) as batches:
            for data, _ in itertools.islice(batches, repeats + 1):
                started = time.process_time()
                loop.train_step(run, data, report)
                taken["vidssl"].append(time.process_time() - started)
                views = run.render(data)  # lightly's are made in its loader
                started = time.process_time()
                first, second = (head(encoder(view).clip) for view in views)
                criterion(first, second).backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                optimizer.zero_grad()
                taken["lightly"].append(time.process_time() - started)
    seconds = {name: statistics.median(values[1:]) for name, values in taken.items()}
    return {
        "model": model, "frames": frames, "size": size, "batch": batch,
        "seconds": {name: [round(value, 2) for value in values[1:]] for name, values in taken.items()},
        "ours of theirs": round(seconds["vidssl"] / seconds["lightly"], 3),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--model", default="timm/vit_small_patch16_224")
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4, help="clips, over all processes")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--part", choices=("parts", "peers", "lightly"), default="parts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    size, frames, batch, steps = arguments.size, arguments.frames, arguments.batch, arguments.steps
    key = arguments.part
    if key == "peers":
        found = peers(frames, size, steps)
        key += f" at {frames} x {size}"
    elif key == "lightly":
        found = beside_lightly(frames, size, batch, steps, arguments.model)
    else:
        found = parts(size, frames, batch, steps, arguments.model)
        key += f", {arguments.model} at {frames} x {size}, processes: {found['processes']}"
    if os.environ.get("RANK", "0") != "0":
        return
    print(json.dumps(found, indent=1))
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**before, key: found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
