"""MED, MIG and nats of the encoders that `benchmarks/tracking.py` tracks with: each family of objectives, and what needs no training.

Clips of other looks and motions than any of them was trained on. MED and MIG look at single dimensions, nats at the best one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from equal_budget.table import QUANTILES
from numpy.typing import NDArray
from object_tracking.recipes import DEMO, OBJECTIVES, prepare, recipe, tower
from scipy.stats import rankdata, spearmanr
from torch import Tensor, nn

import vidssl
from vidssl.data.views.colour import normalize_
from vidssl.data.views.crop import squash
from vidssl.demo import naming
from vidssl.evaluation.disentanglement.metrics import med, mig, mutual_information
from vidssl.synthetic.factors.scenes import factor_clips, sample_table
from vidssl.training.setup import build_student

CLIPS, FRAMES, SIZE = 2000, 16, 64
PIXELS = 8  # of a side, of the mean over frames
PERMUTED = "labels permuted"  # of the raw pixels: what a score says that knows nothing
GROUPS = ("static", "motion")
SCORES = ("MED", "MIG", "nats")


def families(work: Path, demos: Path, seed: int) -> dict[str, dict[str, float]]:
    """By row, of static and of motion factors.

    Args:
        work: that of `benchmarks/tracking.py`, whose runs are read. demos: of `benchmarks/demo.py`.
    """
    table = sample_table("sprites", CLIPS, seed)
    frames = torch.from_numpy(factor_clips("sprites", table.values, FRAMES, SIZE, seed))
    shown: dict[int, Tensor] = {SIZE: frames}
    found = {}
    for name, encoder in encoders(work, demos, seed):
        before = time.process_time()
        size = SIZE if encoder is None else int(encoder.image_size)  # type: ignore[arg-type]
        if size not in shown:
            flat = squash(rearrange(frames, "b t h w c -> (b t) h w c"), size, "bicubic")
            shown[size] = rearrange(flat, "(b t) h w c -> b t h w c", b=CLIPS)
        codes = encode(encoder, shown[size])
        found[name] = scores(codes, table.values, table)
        if encoder is None:
            found[PERMUTED] = scores(codes, np.random.default_rng(seed).permutation(table.values), table)
        print(f"{name}, seed {seed}: {found[name]} ({time.process_time() - before:.0f} s)", flush=True)
    return found


def encoders(work: Path, demos: Path, seed: int) -> Iterator[tuple[str, nn.Module | None]]:
    """By name, those that are there; None is raw pixels."""
    videos, _ = prepare(work, seed)
    yield "raw pixels", None
    torch.manual_seed(seed)
    options = {"load_weights": False, "load_text": False}
    yield "random ViT", vidssl.create_model(tower(work, "vit"), temporal="none", **options)
    yield "untrained", build_student(recipe(work, "hsic", seed, videos))[0].encoder
    places = {name: work / "runs" / f"{name}-{seed}" for name in OBJECTIVES}
    places |= {name: demos / f"seed-{seed}" / place for name, (place, _) in DEMO.items()}
    places["demo's CLIP, concept"] = demos / f"seed-{seed}" / naming.RUN  # which names motions
    for name, place in places.items():
        if place.is_dir():
            yield name, vidssl.load_encoder(place)


@torch.inference_mode()
def encode(encoder: Any, frames: Tensor) -> NDArray[np.float32]:
    """(N, d) of frames (N, T, H, W, 3) in bytes."""
    if encoder is None:
        of: Callable[[Tensor], Tensor] = pixels
    else:
        encoder.eval()

        def of(clips: Tensor) -> Tensor:
            features: Tensor = encoder(normalize_(clips, encoder.mean, encoder.std)).clip
            return features

    parts = (rearrange(part, "b t h w c -> b c t h w").float() / 255 for part in frames.split(32))
    return np.concatenate([of(part).numpy() for part in parts])


def pixels(clips: Tensor) -> Tensor:
    """Means of squares of the picture over all frames."""
    side = clips.shape[-1] // PIXELS
    means: Tensor = rearrange(clips, "b c t (h y) (w x) -> b (c h w) (t y x)", y=side, x=side).mean(-1)
    return means


def scores(codes: NDArray[np.float32], values: NDArray[Any], table: Any) -> dict[str, float]:
    found: dict[str, float] = {"dimensions": codes.shape[1]}
    for group in GROUPS:
        factors = values[:, table.columns(motion=group == "motion")]
        nats = mutual_information(codes, factors).max(axis=0).mean()
        found |= {
            f"{group} MED": float(med(codes, factors)["score"]),
            f"{group} MIG": float(mig(codes, factors)),
            f"{group} nats": float(nats),
        }
    return found


def families_table(cells: dict[str, dict[str, dict[str, float]]], tracked: list[dict[str, Any]]) -> str:
    """Markdown: mean over seeds ± half of the 95 % t-interval, and how the order of rows agrees with that of tracking.

    Args:
        cells: by seed, then by row. tracked: cells of benchmarks/results/tracking.json.
    """
    keys = [f"{group} {score}" for group in GROUPS for score in SCORES]
    rows = list(dict.fromkeys(row for cell in cells.values() for row in cell))
    lines = [f"| | dimensions | {' | '.join(keys)} |", "|---" * (len(keys) + 2) + "|"]
    means: dict[str, dict[str, float]] = {}
    for row in rows:
        of = [cell[row] for cell in cells.values() if row in cell]
        means[row] = {key: float(np.mean([one[key] for one in of])) for key in keys}
        parts = [_spread([one[key] for one in of]) for key in keys]
        lines.append(f"| {row} | {of[0]['dimensions']:.0f} | {' | '.join(parts)} |")
    lines += ["", f"Seeds {', '.join(cells)}; {CLIPS} clips of {FRAMES} frames; means over seeds ± half of the 95 % t-interval."]  # fmt: skip
    tasks = list(next((cell["scores"] for cell in tracked if cell["row"] == "hsic"), {}))
    both = [row for row in rows if any(cell["row"] == row for cell in tracked)]
    if tasks and len(both) > 3:
        lines += ["", f"Spearman's rank correlation with tracking, over {len(both)} rows:", ""]
        lines += [f"| | {' | '.join(tasks)} |", "|---" * (len(tasks) + 1) + "|"]
        for key in keys:
            own = [means[row][key] for row in both]
            found = []
            for task in tasks:
                other = [np.mean([c["scores"][task] for c in tracked if c["row"] == row]) for row in both]
                found.append(f"{spearmanr(rankdata(own), rankdata(other)).statistic:.2f}")
            lines.append(f"| {key} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = QUANTILES[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.3f} ± {half:.3f}"
