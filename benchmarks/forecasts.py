"""Forecasts of latents on real clips against the baselines that know no motion: which setting of `ldm` beats them.

    OMP_NUM_THREADS=1 python benchmarks/forecasts.py --data ../shared/data/videos --seeds 0 1 2

A linear map or a small network reads single frames (32 px, grey, 48 principal components) every 0.15 s; it and the model of motion
are trained from nothing, 300 steps of 16 clips, on the training clips of three sets, or of nine. Settings are chosen on a
quarter of the recordings of the three sets (--part chosen, which are then not trained on); the table is of their validation
part, whose recordings are other ones. Ten seconds a run. Frames are cached; a finished run is not run again. Writes
forecasts.json and forecasts.md.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from statistics import mean, stdev
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from vidssl.data.clips import ClipSpec, uniform_clips, whole
from vidssl.data.decode.open import open_video
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.evaluation.dynamics.measure import measure_dynamics
from vidssl.objectives.base import BatchInfo
from vidssl.objectives.ldm import LDM, PUBLISHED

SETS = ("pushup_form", "ut_interaction", "weizmann4")
MORE_SETS = ("surv_fight", "traffic_crash", "ucf101", "vsl_words", "yoga", "handwash")
STEP, LONGEST, SIZE, COMPONENTS = 0.15, 40, 32, 48
FRAMES, EVALUATED, HORIZON, CONTEXT = 16, 24, 8, 4
DIM = 8
BASE: dict[str, Any] = {
    "state_dim": 16,
    "entropy": "logdet",
    "horizon": 4,
    "reduction": "mean",
    "lr_multiplier": 10.0,
}
WITHIN: dict[str, Any] = {"pool": "within_clip", "memory": 0.95}
# What a setting changes of BASE; keys in capitals are of the encoder and its training.
SETTINGS: dict[str, dict[str, Any]] = {
    "linear, as published": {"HIDDEN": 0, **PUBLISHED},
    "linear, not calibrated": {"HIDDEN": 0, "calibrate": False},
    "linear": {"HIDDEN": 0},
    "linear, memory": {"HIDDEN": 0, "memory": 0.95},
    "linear, within clips": {"HIDDEN": 0, **WITHIN},
    "network, as published": {**PUBLISHED},
    "network": {},
    "network, within clips": WITHIN,
    "network, nine sets": {"MORE": True},
    "network, within clips, nine sets": {**WITHIN, "MORE": True},
    "network, k-NN": {"entropy": "knn"},
    "network, k-NN, largest tenth clipped": {"entropy": "knn", "clip_quantile": 0.9},
    "network, k-NN of other clips": {"entropy": "knn", "other_clips": True},
}


class Clips(NamedTuple):
    """Frames (T, …) of clips, uint8 pixels or their components; recording and path of each."""

    frames: list[Tensor]
    groups: list[str]
    names: list[str]

    def where(self, kept: list[bool]) -> Clips:
        return Clips(*([x for x, keep in zip(row, kept, strict=True) if keep] for row in self))

    def of(self, sets: tuple[str, ...]) -> Clips:
        return self.where([name.split("/")[0] in sets for name in self.names])


def read_clips(root: Path, split: str, sets: tuple[str, ...], cache: Path) -> Clips:
    """All clips of a split, (T, 32, 32) uint8, one frame every `STEP` seconds, from the cache where they are there."""
    file = cache / f"forecasts_{split}_{len(sets)}.pt"
    if file.is_file():
        return Clips(*torch.load(file, weights_only=True))
    clips = Clips([], [], [])
    with (root / "manifest.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["split"] == split]
    for row in rows:
        if row["path"].split("/")[0] not in sets:
            continue
        video = open_video(root / row["path"])
        start, stop = whole(video.times)
        steps = min(max(math.floor((stop - start) / STEP + 1e-3), 1), LONGEST)
        clip = uniform_clips(video.times, ClipSpec(steps, seconds=steps * STEP), 1)
        unique, place = np.unique(clip.indices[0], return_inverse=True)
        pixels = torch.from_numpy(video.frames(unique)[place]).float().mean(-1)[:, None]
        video.close()
        small = functional.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)
        later = np.concatenate([[True], np.diff(clip.times[0]) > 0])
        clips.frames.append(small[torch.from_numpy(later), 0].round().clamp(0, 255).byte())
        clips.groups.append(f"{row['path'].split('/')[0]}/{row['group']}")
        clips.names.append(row["path"])
    cache.mkdir(parents=True, exist_ok=True)
    torch.save(tuple(clips), file)
    return clips


def components(train: Clips, judged: Clips) -> tuple[Clips, Clips]:
    """Both as principal components of the training frames, of variance 1 down to a fiftieth of the first one's deviation."""
    pixels = torch.cat(train.frames).flatten(1).float() / 255
    mean = pixels.mean(0)
    torch.manual_seed(0)
    _, size, axes = torch.pca_lowrank((pixels - mean)[::2], COMPONENTS, center=False)
    size = size / math.sqrt(len(pixels[::2]))
    scaled = axes / size.clamp_min(0.02 * size[0])

    def of(clips: Clips) -> Clips:
        return clips._replace(frames=[(x.flatten(1).float() / 255 - mean) @ scaled for x in clips.frames])

    return of(train), of(judged)


def held_out(group: str) -> bool:
    """A quarter of the recordings, by name."""
    return zlib.crc32(group.encode()) % 4 == 0


def encoder(hidden: int) -> nn.Module:
    """Components of one frame to DIM numbers, without a norm over the batch; linear for hidden = 0."""
    if hidden == 0:
        return nn.Linear(COMPONENTS, DIM)
    return nn.Sequential(
        nn.Linear(COMPONENTS, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Linear(hidden, DIM)
    )


def batches(clips: Clips, size: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, FRAMES, COMPONENTS) and times, for ever: windows of clips; times that stand still are padding."""
    draw = np.random.default_rng(seed)
    while True:
        views, times = torch.zeros(size, FRAMES, COMPONENTS), torch.zeros(size, FRAMES)
        for i, number in enumerate(draw.choice(len(clips.frames), size, replace=False)):
            video = clips.frames[number]
            start = int(draw.integers(max(len(video) - FRAMES, 0) + 1))
            part = video[start : start + FRAMES]
            views[i, : len(part)] = part
            times[i, : len(part)] = STEP * torch.arange(len(part))
        yield views, times


def train(setting: dict[str, Any], clips: Clips, seed: int) -> tuple[nn.Module, LDM, dict[str, float]]:
    options = {**BASE, **setting}
    hidden, steps, size, lr = (
        options.pop(key, default)
        for key, default in (("HIDDEN", 256), ("STEPS", 300), ("BATCH", 16), ("LR", 1e-3))
    )
    torch.manual_seed(seed)
    net, objective = encoder(hidden), LDM(DIM, seed=seed, **options)
    groups = [{"params": list(net.parameters()), "scale": 1.0}]
    groups += [
        {"params": g["params"], "scale": g["lr_scale"], "weight_decay": 0.0} for g in objective.param_groups()
    ]
    optimiser = torch.optim.AdamW(groups, lr=lr, weight_decay=0.01)
    source, logs = batches(clips, size, seed), {}
    for step in range(steps):
        rate = lr * min((step + 1) / 20, 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate * group["scale"]
        frames, times = next(source)
        output = objective([net(frames)], None, BatchInfo(torch.arange(size), [times]))
        optimiser.zero_grad()
        output.loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        if all(p.grad is None or bool(p.grad.isfinite().all()) for p in objective.parameters()):
            optimiser.step()
            objective.after_step()
        logs = {key.removeprefix("ldm/"): float(value) for key, value in output.logs.items()}
    return net, objective, logs


@torch.inference_mode()
def sequences(net: nn.Module, clips: Clips) -> LatentSequences:
    """Latents of the first EVALUATED frames of every clip."""
    z = torch.zeros(len(clips.frames), EVALUATED, DIM, dtype=torch.float64)
    valid = torch.zeros(len(z), EVALUATED, dtype=torch.bool)
    for i, video in enumerate(clips.frames):
        part = video[:EVALUATED]
        z[i, : len(part)] = net(part).double()
        valid[i, : len(part)] = True
    times = STEP * torch.arange(EVALUATED, dtype=torch.float64).repeat(len(z), 1)
    return LatentSequences(z, valid, times, tuple(clips.names))


def run(setting: dict[str, Any], train_clips: Clips, judged: Clips, seed: int) -> dict[str, Any]:
    began, options = time.process_time(), dict(setting)
    if not options.pop("MORE", False):
        train_clips = train_clips.of(SETS)
    clips, judged = components(train_clips, judged)
    net, objective, logs = train(options, clips, seed)
    found = measure_dynamics(objective.model.eval(), sequences(net.eval(), judged), HORIZON, context=CONTEXT)
    record = found.forecast.record()
    return {
        "persistence": [x["value"] for x in record["ratio_to_persistence"]],
        "smoothing": [x["value"] for x in record["ratio_to_smoothing"]],
        "nrmse": [x["value"] for x in record["nrmse"]["model"]],
        "interval": [
            record[f"ratio_to_{name}"][i]["interval"] for name, i in (("persistence", 0), ("smoothing", 1))
        ],
        "covariance_scale": found.calibration.covariance_scale.value,
        "std": logs["std"],
        "seconds": round(time.process_time() - began, 1),
    }


def table(results: dict[str, Any]) -> str:
    """Markdown: means over seeds and their spread."""
    lines = [
        "| setting | of persistence, 1 step | of smoothing, 2 steps | 4 | 8 | error / mean latent, 1 step | covariance scale | std of z |",
        "|---|---|---|---|---|---|---|---|",
    ]

    def cell(values: list[float]) -> str:
        spread = f" ± {stdev(values):.2f}" if len(values) > 1 else ""
        return f"{mean(values):.2f}{spread}"

    for name, runs in results.items():
        rows = list(runs.values())
        cells = [cell([r["persistence"][0] for r in rows])]
        cells += [cell([r["smoothing"][h] for r in rows]) for h in (1, 3, 7)]
        cells += [cell([r["nrmse"][0] for r in rows])]
        cells += [cell([r[key] for r in rows]) for key in ("covariance_scale", "std")]
        lines.append(f"| {name} ({len(rows)} seeds) | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--part", choices=("chosen", "reported"), default="reported")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--cache", type=Path, default=Path("runs/cache"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clips = read_clips(arguments.data, "train", (*SETS, *MORE_SETS), arguments.cache)
    long_enough = [len(frames) > CONTEXT + 1 for frames in clips.frames]
    clips = clips.where(long_enough)
    if arguments.part == "chosen":
        kept = [
            name.split("/")[0] in MORE_SETS or not held_out(g)
            for name, g in zip(clips.names, clips.groups, strict=True)
        ]
        clips, judged = clips.where(kept), clips.where([not keep for keep in kept])
    else:
        judged = read_clips(arguments.data, "val", SETS, arguments.cache)
    arguments.output.mkdir(parents=True, exist_ok=True)
    file = arguments.output / f"forecasts{'' if arguments.part == 'reported' else '_chosen'}.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    for seed in arguments.seeds:
        for name in arguments.settings:
            if str(seed) in results.get(name, {}):
                continue
            record = run(SETTINGS[name], clips, judged, seed)
            results.setdefault(name, {})[str(seed)] = record
            file.write_text(json.dumps(results, indent=1) + "\n")
            print(name, seed, json.dumps(record), flush=True)
    print(table(results))
    if arguments.part == "reported":
        note = (
            "Root mean squared error of forecasts in units of that of the last latent and of the best average so far; mean ± "
            "standard deviation over seeds. See the head of `benchmarks/forecasts.py`."
        )
        file.with_suffix(".md").write_text(f"# Forecasts on real clips\n\n{note}\n\n{table(results)}\n")


if __name__ == "__main__":
    main()
