"""Five tracking tasks without training, of encoders before and after they were trained on videos of the same kind of scene.

    OMP_NUM_THREADS=1 python benchmarks/tracking.py
    OMP_NUM_THREADS=1 python benchmarks/tracking.py --choosing --rows untrained "raw pixels" hsic     # seed 100

Unlabelled videos show one textured sprite each, which moves, turns, and changes its size under coloured light and shadows. A small
image network is trained on them from random weights with each objective: its two views are frames of one video at different times.
Then several such sprites, one of which looks like the first but for its texture, are tracked with the network's patch features as
they are. No scene that is tracked in is trained on. Many objects are told by looks alone (`overlap=False`).

Beside them stand the encoders of `vidssl demo`, the video encoder that it trains on sprites that move alike, before and after, and its
CLIP of single frames, before and after its concepts are distilled in the order of time from the videos above. They come from the folders of `benchmarks/demo.py` (`--demos`); a demo
that is not there is run, in about seven minutes of a core. True labels in place of features say what the grid leaves of masks and points.

A seed draws the videos, the sequences, the weights and the batches. Settings were chosen on seed 100. Cells are kept in
benchmarks/results/tracking.json; an interrupted benchmark goes on where it stopped, and only cells of a recipe that has changed are
run again. A trained cell takes about a minute of one CPU core, the others a quarter of that.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from object_tracking.following import ceiling, copies, follow, of_encoder, of_pixels
from object_tracking.recipes import (
    CONCEPT,
    DEMO,
    LAYER,
    OBJECTIVES,
    concept_recipe,
    fingerprint,
    prepare,
    recipe,
    tower,
)
from object_tracking.table import COPY, PIXELS, PLACE, PLAIN, TRUTH, UNTRAINED, VIT, table

import vidssl
from vidssl.config import Config
from vidssl.demo import naming
from vidssl.demo.run import run_demo
from vidssl.files import read_json, write_json, write_text
from vidssl.models.encoder import VideoEncoder
from vidssl.training import pretrain
from vidssl.training.setup import build_student

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-tracking")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 2; with --choosing 100")
    rows = [*PLAIN, *OBJECTIVES, *DEMO, CONCEPT]
    parser.add_argument("--rows", nargs="+", default=rows, choices=rows)
    parser.add_argument("--demos", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-demo-benchmark")
    parser.add_argument("--choosing", action="store_true", help="with seeds from 100 on, kept under --work")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so many")
    parser.add_argument("--table-only", action="store_true", help="write the table of what is there")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    stem = (arguments.work if arguments.choosing else RESULTS) / "tracking"
    record = read_json(stem.with_suffix(".json")) if stem.with_suffix(".json").is_file() else {"cells": []}
    if not arguments.table_only:
        run_cells(arguments, record, stem)
    text = table([cell for cell in record["cells"] if cell["recipe"] == fingerprint(cell["row"])])
    write_text(stem.with_suffix(".md"), text)
    print(text)


def run_cells(arguments: argparse.Namespace, record: dict[str, Any], stem: Path) -> None:
    """Run the cells that are wanted and not there, and write each down when it is done."""
    started = time.monotonic()
    for seed in arguments.seeds or ([100] if arguments.choosing else range(3)):
        for row in arguments.rows:
            mark = {"row": row, "seed": seed, "recipe": fingerprint(row)}
            if any(mark.items() <= cell.items() for cell in record["cells"]):
                continue
            if time.monotonic() - started > 60 * arguments.minutes:
                return
            before = time.process_time()
            cell = {**mark, "scores": scores_of(row, seed, arguments.work, arguments.demos)}
            cell["cpu_seconds"] = round(time.process_time() - before, 1)
            file = stem.with_suffix(".json")
            cells = read_json(file)["cells"] if file.is_file() else []  # another process may have added some
            record["cells"] = [c for c in cells if (c["row"], c["seed"]) != (row, seed)] + [cell]
            write_json(file, record)
            print(f"{row} seed {seed}: {cell['scores']} ({cell['cpu_seconds']} s)", flush=True)


def scores_of(row: str, seed: int, work: Path, demos: Path) -> dict[str, float]:
    """Of one row and seed, by task and metric."""
    videos, sequences = prepare(work, seed)
    if row == TRUTH:
        return ceiling(sequences)
    if row in (*DEMO, CONCEPT):
        folder = demos / f"seed-{seed}"
        if not (folder / "result.json").is_file():
            run_demo(folder, seed)
        place, layer = DEMO.get(row, (naming.CLIP, None))
        if row == CONCEPT:
            name = trained(concept_recipe(work, seed, videos, folder / place))
        else:
            name = folder / place
        return follow(of_encoder(vidssl.load_encoder(name), layer), sequences)
    if row in (COPY, PLACE):
        return copies(sequences)[row]
    if row == PIXELS:
        return follow(of_pixels(), sequences)
    if row == VIT:
        torch.manual_seed(seed)
        options = {"load_weights": False, "load_text": False}
        vit = vidssl.create_model(tower(work, "vit"), temporal="none", **options)
        return follow(of_encoder(vit, None), sequences)
    if row == UNTRAINED:
        return follow(of_encoder(start(work, seed, videos), LAYER), sequences)
    run = trained(recipe(work, row, seed, videos))
    return follow(of_encoder(vidssl.load_encoder(run), LAYER), sequences)


def trained(config: Config) -> Path:
    """The folder of a run, which is made unless it is there."""
    run = Path(config.output)
    if not (run / "latest.json").is_file():
        pretrain(config)
    return run


def start(work: Path, seed: int, videos: Path) -> VideoEncoder:
    """The encoder with which every objective begins."""
    return build_student(recipe(work, "hsic", seed, videos))[0].encoder


if __name__ == "__main__":
    main()
