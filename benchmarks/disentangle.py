"""Does a video encoder that learned motions hold what only the order of frames tells? Over seeds, with controls.

    OMP_NUM_THREADS=1 python benchmarks/disentangle.py --seeds 0 1 2      # resumable: cells are kept
    OMP_NUM_THREADS=1 python benchmarks/disentangle.py --told 0           # the same network, told the sense of spin
    OMP_NUM_THREADS=1 python benchmarks/disentangle.py --floors           # of codes that know nothing, and of ideal ones
    OMP_NUM_THREADS=1 python benchmarks/disentangle.py --families 0 1 2   # the encoders of benchmarks/tracking.py, run before
    OMP_NUM_THREADS=1 python benchmarks/disentangle.py --table-only

A cell trains the demo's encoder on the demo's videos (SSL-HSIC from scratch, no labels), then does what `vidssl disentangle`
does, on rendered clips of other looks and motions than it was trained on: the encoder, the encoder before training, and the
encoder shown single frames, the mean over all frames, or frames in random order. Of signs of motions it also asks all dimensions
together, by logistic regression. `--demos` takes the runs of `benchmarks/demo.py` instead of training anew. `--image MODEL` measures a network of
random weights, an image CLIP for example, on frame 0 alone.

Writes benchmarks/results/disentangle.json and .md. Cells of another recipe or number of clips are run again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from equal_budget.table import QUANTILES, interval
from factor_codes.families import families, families_table
from factor_codes.joint import joint
from factor_codes.told import SIDE, told

from vidssl.config import load_config
from vidssl.demo import run as demo
from vidssl.evaluation.disentanglement.clips import RenderedClips
from vidssl.evaluation.disentanglement.encode import ENCODER, UNTRAINED, encode_clips
from vidssl.evaluation.disentanglement.measure import Question, measure, other_scores
from vidssl.evaluation.disentanglement.metrics import med, mutual_information
from vidssl.evaluation.disentanglement.report import disentangle
from vidssl.evaluation.disentanglement.signs import signs_of
from vidssl.evaluation.setup import EvalOptions, load_subject
from vidssl.files import read_json, write_json, write_text
from vidssl.synthetic.factors.scenes import sample_table
from vidssl.synthetic.motions import write_sprite_dataset
from vidssl.training import pretrain

RESULTS = Path(__file__).parent / "results" / "disentangle.json"
ROWS = ("encoder", "untrained", "mean of frames", "frames shuffled", "frame 0 alone", "labels permuted")
SIGNS = ("left or right", "up or down", "sense of spin")
OPTIONS = EvalOptions(batch_size=32, workers=0, device="cpu")
TRACKED = Path(tempfile.gettempdir()) / "vidssl-tracking"  # where the other benchmarks work by default
DEMOS = Path(tempfile.gettempdir()) / "vidssl-demo-benchmark"
BINS = 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[])
    parser.add_argument("--steps", type=int, help="of the training (default: the recipe's)")
    parser.add_argument("--clips", type=int, default=5000, help="that are measured on")
    parser.add_argument("--image", nargs="+", default=[], metavar="MODEL", help="measured on frame 0 alone")
    parser.add_argument("--demos", type=Path, help="the demos of benchmarks/demo.py, whose runs are measured")
    parser.add_argument("--told", type=int, nargs="+", default=[], metavar="SEED")
    parser.add_argument("--families", type=int, nargs="+", default=[], metavar="SEED")
    parser.add_argument(
        "--tracked", type=Path, help="what was --work of benchmarks/tracking.py, for --families"
    )
    parser.add_argument("--floors", action="store_true")
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-disentangle")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = read_json(arguments.results) if arguments.results.is_file() else {"cells": [], "images": {}}
    if not arguments.table_only:
        for seed in arguments.seeds:
            mark = {"seed": seed, "recipe": fingerprint(arguments.steps), "clips": arguments.clips}
            if any(mark.items() <= cell.items() for cell in record["cells"]):
                continue
            if arguments.demos is None:
                run = trained(arguments.work, seed, arguments.steps)
            else:
                run = arguments.demos / f"seed-{seed}" / "run"
            cell = {**mark, **measured(run, seed, arguments.clips)}
            record["cells"] = [*(c for c in record["cells"] if c["seed"] != seed), cell]
            write_json(arguments.results, record)
        for model in arguments.image:
            record["images"][model] = image(model, arguments.clips)
            write_json(arguments.results, record)
        for seed in arguments.told:
            record.setdefault("told", {})[str(seed)] = told(seed)
            write_json(arguments.results, record)
        for seed in arguments.families:
            tracked, demos = arguments.tracked or TRACKED, arguments.demos or DEMOS
            record.setdefault("families", {})[str(seed)] = families(tracked, demos, seed)
            write_json(arguments.results, record)
        if arguments.floors:
            record["floors"] = floors()
            write_json(arguments.results, record)
    text = table(record)
    write_text(arguments.results.with_suffix(".md"), text)
    print(text)


def recipe(seed: int, folder: Path, steps: int | None) -> Any:
    """The demo's, into `folder`."""
    changes = {"output": folder / "run", "seed": seed, "data.train": folder / "videos" / "train"}
    if steps is not None:
        changes |= {"train.steps": steps, "train.checkpoint_every": steps}
    return load_config("demo", [f"{key}={value}" for key, value in changes.items()])


def fingerprint(steps: int | None) -> str:
    """Of everything that a cell depends on but its seed and the number of clips."""
    videos = [demo.TRAIN_CLIPS, demo.FRAMES, demo.SHOTS, demo.SIZE]
    config = recipe(0, Path("work"), steps).model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(json.dumps([config, videos], sort_keys=True).encode()).hexdigest()[:12]


def trained(work: Path, seed: int, steps: int | None) -> Path:
    """The run of a seed; one that was stopped goes on."""
    folder = work / f"{fingerprint(steps)}-{seed}"
    if not (folder / "videos" / "classes.csv").is_file():
        write_sprite_dataset(
            folder / "videos",
            clips_per_class_train=demo.TRAIN_CLIPS,
            clips_per_class_val=0,
            frames=demo.FRAMES,
            shots=demo.SHOTS,
            size=demo.SIZE,
            texture=0.0,
            seed=seed,
        )
    return pretrain(recipe(seed, folder, steps), resume=(folder / "run").is_dir())


def measured(run: Path, seed: int, clips: int) -> dict[str, Any]:
    """What `vidssl disentangle` measures, and what all dimensions say together."""
    before = time.process_time()
    options = replace(OPTIONS, frames=16, stride=1, resize="squash")
    shown = RenderedClips("sprites", clips, 16, seed)
    encoded, table = encode_clips(load_subject(run, options), shown, seed), shown.table
    motion = np.array([name in table.motion for name in table.names])
    signs = signs_of(table.names, [table.sizes[name] for name in table.names], motion.tolist())
    question = Question(table.values[encoded.rows], tuple(table.names), motion, tuple(signs), BINS)
    asked = {name: (codes, question) for name, codes in encoded.codes.items()}
    asked["labels permuted"] = encoded.codes[ENCODER], question.permuted(seed)
    rows = {}
    for name, (codes, of) in asked.items():
        together = {
            sign.name: joint(codes, sign.labels(of.factors[:, of.names.index(sign.factor)])) for sign in signs
        }
        rows[name] = {**measure(codes, of), "joint": together}
    others = {
        name: other_scores(encoded.codes[name], question, slow=False, seed=seed)[0]
        for name in (ENCODER, UNTRAINED)
    }
    return {"cpu_seconds": time.process_time() - before, "rows": rows, "other_scores": others}


def image(model: str, clips: int) -> dict[str, Any]:
    """MED and nats of motion factors, of clips of one frame."""
    options = replace(OPTIONS, frames=1)
    result = disentangle(model, RenderedClips("sprites", clips, 1, 0), options=options)
    return {
        "clips": clips,
        "dimensions": result["dimensions"],
        "encoder": result["rows"]["encoder"]["groups"],
        "labels permuted": result["would_say_if"]["labels permuted"]["groups"],
    }


def floors() -> list[dict[str, Any]]:
    """MED and nats of normal noise, and MED of ideal codes, by clips and dimensions: motion factors of the sprites."""
    found = []
    for n in (1000, 10_000):
        table = sample_table("sprites", n, 0)
        factors = table.values[:, table.columns(motion=True)]
        for d in (16, 128, 512):
            noise = np.random.default_rng(0).normal(size=(n, d))
            ideal = noise.copy()
            ideal[:, :4] = factors
            found.append(
                {
                    "clips": n,
                    "dimensions": d,
                    "noise": med(noise, factors)["score"],
                    "noise nats": float(mutual_information(noise, factors).max(axis=0).mean()),
                    "ideal": med(ideal, factors)["score"],
                    "ideal top-1": med(ideal, factors, top_k=1)["score"],
                    "ideal Miller-Madow": med(ideal, factors, bias="miller_madow")["score"],
                }
            )
    return found


def spread(values: list[float], digits: int = 3) -> str:
    """Mean ± half the width of its 95 % t-interval."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.{digits}f}"
    half = QUANTILES[len(values)] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(record: dict[str, Any]) -> str:
    """Markdown: MED and nats of every row; the encoder less its bag-of-frames controls, paired by seed; images; floors."""
    cells, lines = record["cells"], []
    if cells:
        head = [
            "static MED",
            "static nats",
            "motion MED",
            "motion nats",
            *(f"{sign}, nats" for sign in SIGNS),
        ]
        lines += [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
        for row in ROWS:
            values = [
                [cell["rows"][row]["groups"][group][key] for cell in cells]
                for group in ("static", "motion")
                for key in ("med", "nats")
            ]
            values += [[cell["rows"][row]["signs"][sign]["nats"] for cell in cells] for sign in SIGNS]
            lines.append(f"| {row} | {' | '.join(spread(v) for v in values)} |")
        for control in ("mean of frames", "frames shuffled"):
            less = [
                [
                    c["rows"]["encoder"]["signs"][s]["nats"] - c["rows"][control]["signs"][s]["nats"]
                    for c in cells
                ]
                for s in SIGNS
            ]
            lines.append(f"| encoder less {control} | | | | | {' | '.join(spread(v) for v in less)} |")
        seeds = ", ".join(str(cell["seed"]) for cell in cells)
        clips = ", ".join(str(count) for count in sorted({cell["clips"] for cell in cells}))
        seconds = ", ".join(f"{cell['cpu_seconds']:.0f}" for cell in cells)
        lines += [
            "",
            f"Seeds {seeds}; {clips} clips; 95 % t-intervals; {seconds} s of a CPU core to measure.",
            "",
        ]
        lines += [
            "All dimensions together, of clips that were not fitted on: accuracy in %, and nats (at least)",
            "",
        ]
        lines += [
            f"| | {' | '.join(f'{sign} | nats' for sign in SIGNS)} |",
            "|---" * (2 * len(SIGNS) + 1) + "|",
        ]
        for row in ROWS:
            found = [[cell["rows"][row]["joint"][sign] for cell in cells] for sign in SIGNS]
            parts = [
                part
                for values in found
                for part in (interval([v["accuracy"] for v in values]), spread([v["nats"] for v in values]))
            ]
            lines.append(f"| {row} | {' | '.join(parts)} |")
        lines.append("")
    for seed, found in record.get("told", {}).items():
        lines += [
            f"`conv3d/small` told the sense of spin of clips of {SIDE} pixels, seed {seed}: {100 * found['accuracy']:.1f} % of clips "
            f"it never saw, {found['nats']:.3f} nats ({found['cpu_seconds']:.0f} s)",
            "",
        ]
    if record["images"]:
        lines += [
            "| frame 0 alone, random weights | clips | dimensions | motion MED | nats | permuted: MED | nats |",
            "|---" * 7 + "|",
        ]
        for model, found in record["images"].items():
            own, floor = found["encoder"]["motion"], found["labels permuted"]["motion"]
            numbers = [f"{x:.4f}" for x in (own["med"], own["nats"], floor["med"], floor["nats"])]
            lines.append(f"| {model} | {found['clips']} | {found['dimensions']} | {' | '.join(numbers)} |")
        lines.append("")
    if "families" in record:
        tracked = RESULTS.with_name("tracking.json")
        cells = read_json(tracked)["cells"] if tracked.is_file() else []
        lines += [families_table(record["families"], cells)]
    if "floors" in record:
        keys = list(record["floors"][0])
        lines += [f"| {' | '.join(keys)} |", "|---" * len(keys) + "|"]
        for found in record["floors"]:
            cells_ = [str(found[k]) if isinstance(found[k], int) else f"{found[k]:.3f}" for k in keys]
            lines.append(f"| {' | '.join(cells_)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
