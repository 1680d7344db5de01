"""Every objective at the same budget, beside the encoder it started from.

    OMP_NUM_THREADS=1 python benchmarks/comparison.py --set sprites
    OMP_NUM_THREADS=1 python benchmarks/comparison.py --set clips --videos VIDEOS

Each cell, an objective and a seed, pretrains the same small network from random weights for the same number of steps on
the same batches; frozen features of the whole video are then probed: logistic regression on clip features and on those
of the frames side by side, and k-NN. ``sprites`` are the videos of `vidssl demo`, whose eight classes are motions.
``clips`` is a folder of real videos (manifest.csv, ``<set>/{train,val}/<class>/``): pretraining on all but the
validation splits, probes on sets whose classes are told by motion. Controls of SSL-HSIC without a teacher: gamma = 0,
second views from another video, frames in random order, a frozen encoder.

Settings are chosen with --choosing: other videos, other labelled sets, and seeds from 100 on. Cells are kept in
benchmarks/results/, so that an interrupted benchmark goes on where it stopped; only cells of a recipe that has changed
are run again. Decoded frames are kept under --work.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from equal_budget import videos
from equal_budget.cell import baselines, run_cell
from equal_budget.recipes import ROWS, SETTINGS, fingerprint, needs_clip, recipe, rows_of
from equal_budget.table import figure, table

from vidssl.data.cache.videos import cached
from vidssl.data.decode.open import open_video
from vidssl.files import read_json, write_json, write_text

FPS, SIDE = (
    10.0,
    64,
)  # of the frames that are kept: frames a second, and pixels of the short side, both at most
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=("sprites", "clips"), required=True)
    parser.add_argument(
        "--videos", type=Path, help="folder of real videos with manifest.csv (for --set clips)"
    )
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vidssl-benchmark")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 to 4; with --choosing 100")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW")
    parser.add_argument("--choosing", action="store_true", help="on the videos on which settings are chosen")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no cell after so many")
    parser.add_argument(
        "--table-only", action="store_true", help="write the table of the cells that are there"
    )
    arguments = parser.parse_args()
    stem = (arguments.work if arguments.choosing else RESULTS) / f"comparison_{arguments.set}"
    record = read_json(stem.with_suffix(".json")) if stem.with_suffix(".json").is_file() else {"cells": []}
    if not arguments.table_only:
        run_cells(arguments, record, stem)
    settled = [
        cell
        for cell in record["cells"]
        if cell["row"] in ROWS and cell["recipe"] == fingerprint(arguments.set, cell["row"])
    ]
    text = table(settled, record["baselines"])
    write_text(stem.with_suffix(".md"), text)
    figure(settled, stem.with_suffix(".png"))
    print(text)


def run_cells(arguments: argparse.Namespace, record: dict[str, Any], stem: Path) -> None:
    """Run the cells that are wanted and not there, and write each down when it is done."""
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.set == "clips" and arguments.videos is None:
        raise SystemExit("--set clips needs --videos")
    if arguments.set == "sprites":
        source = videos.sprites(arguments.work, arguments.choosing)
    else:
        source = videos.clips(arguments.work, arguments.videos, arguments.choosing)
    cache = cached(open_video, SIDE, "raw", arguments.work / "frames", fps=FPS)
    started = time.monotonic()
    for seed in arguments.seeds or ([100] if arguments.choosing else range(5)):
        for row in arguments.rows or rows_of(arguments.set):
            mark = {"row": row, "seed": seed, "recipe": fingerprint(arguments.set, row)}
            if any(mark.items() <= cell.items() for cell in record["cells"]):
                continue
            if time.monotonic() - started > 60 * arguments.minutes:
                return
            before = time.process_time()
            probed = SETTINGS[arguments.set].probed
            clip = videos.clip_of_frames(arguments.work, seed) if needs_clip(row) else Path("clip")
            config = recipe(arguments.set, row, seed, source.train, clip)
            cell = {**mark, **run_cell(config, ROWS[row].control, source.labelled, probed, cache)}
            cell["cpu_seconds"] = round(time.process_time() - before, 1)
            if "baselines" not in record:
                record["baselines"] = baselines(source.labelled, cache)
            others = [c for c in record["cells"] if (c["row"], c["seed"]) != (row, seed)]
            record["cells"] = [*others, cell]
            write_json(stem.with_suffix(".json"), record)
            print(
                f"{arguments.set} {row} seed {seed}: {cell['scores']} ({cell['cpu_seconds']} s)", flush=True
            )


if __name__ == "__main__":
    main()
