"""Encoders side by side on real clips: the published protocols by the package's own commands, all with the same sampling.

    pip install --group benchmarks
    OMP_NUM_THREADS=1 python benchmarks/encoders.py VIDEOS --work FOLDER

VIDEOS holds <set>/classes.csv and manifest.csv with path, label, group and split; recordings are not shared between the splits. The encoders:

- image-text: `image_text_model.py`, real weights, the mean over frames;
- 3-d: the 3-D network of `vidssl demo`, trained without labels on rendered motions; 3-d-start: as that training began;
- named: the small CLIP of the demo with attention over time, which learned to name motions.

What is in FOLDER already (the demo, the model, every result) is kept, so that an interrupted run goes on. Every result is checked against the
shipped schema. Writes benchmarks/results/encoders_real.{md,json,png}.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from image_text_model import write_model

from vidssl.evaluation.results.schema import read_result
from vidssl.evaluation.side_by_side.show import notes, table_rows

RESULTS = Path(__file__).parent / "results"
SETS = ("vsl_words", "ut_interaction")
SHOWN = ("--frames", "8", "--seconds", "0", "--size", "128", "--workers", "0", "--device", "cpu", "--cache", "cache", "--cache-gigabytes", "5")  # fmt: skip
ENCODERS = {
    "image-text": "local-dir:image_text",
    "3-d": "demo/run",
    "3-d-start": "demo/run/initial",
    "named": "demo/naming",
}
TEXTS = ("image-text", "named")  # have a text tower
KEPT = "results"


def commands(name: str, source: str) -> Iterator[tuple[str, list[str]]]:
    """What is asked of an encoder: the result's name, and the command without sampling and output."""
    for data in SETS:
        train, val = f"{data}-train.csv", f"{data}-val.csv"
        if name in TEXTS:
            yield (
                f"{data}-zero-shot-{name}",
                ["zero-shot", source, val, "--classes", f"videos/{data}/classes.csv"],
            )
        yield f"{data}-knn-{name}", ["knn", source, train, val, "--k", "1", "--k", "20"]
        yield f"{data}-linear-probe-{name}", ["linear-probe", source, train, val]
        yield f"{data}-retrieval-{name}", ["retrieval", source, val, "--gallery", train]
    yield f"{SETS[-1]}-temporal-{name}", ["temporal", source, f"{SETS[-1]}-val.csv"]
    yield f"{SETS[-1]}-geometry-{name}", ["geometry", source, f"{SETS[-1]}-val.csv"]


def vidssl(work: Path, *arguments: str) -> float:
    """Run a command in the folder; CPU seconds.

    Raises:
        SystemExit: where it fails.
    """
    print("vidssl", *arguments, flush=True)
    log, before = work / "log.txt", _children()
    with log.open("a") as file:
        done = subprocess.run(
            [sys.executable, "-m", "vidssl", *arguments], cwd=work, stdout=file, stderr=file
        )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: failed, see {log}")
    return _children() - before


def _children() -> float:
    import os

    times = os.times()
    return times.children_user + times.children_system


def prepare(videos: Path, work: Path) -> None:
    """Lists with groups, a link to the videos, the demo and the model, where they are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "videos").exists():
        (work / "videos").symlink_to(videos.resolve(), target_is_directory=True)
    with (videos / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for data in SETS:
        for split in ("train", "val"):
            with (work / f"{data}-{split}.csv").open("w", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(["path", "label", "group"])
                for row in rows:
                    if row["path"].startswith(f"{data}/{split}/"):
                        writer.writerow([f"videos/{row['path']}", row["label"], row["group"]])
    if not (work / "demo" / "result.json").is_file():
        vidssl(work, "demo", "--output", "demo")
    if not (work / "image_text" / "open_clip_model.safetensors").is_file():
        write_model(work / "image_text")


def measure(work: Path, names: Sequence[str]) -> dict[str, float]:
    """Run what has no result yet of some encoders; CPU seconds of every command, those of earlier runs included."""
    clock = work / "seconds"
    clock.mkdir(exist_ok=True)
    for name in names:
        source = ENCODERS[name]
        for result, arguments in commands(name, source):
            task = arguments[0]
            folder = task in ("temporal", "geometry")
            output = Path(KEPT) / (result if folder else f"{result}.json")
            file = work / output / f"{task}.json" if folder else work / output
            if not file.is_file():
                used = vidssl(work, *arguments, *SHOWN, "--output", str(output))
                (clock / result).write_text(str(used))
            read_result(file)  # of its form, or an error
    return {file.name: float(file.read_text()) for file in clock.iterdir()}


def page(work: Path, used: dict[str, float]) -> str:
    """The tables in Markdown; the picture and the JSON are those of `vidssl compare`."""
    files = [
        str(Path(KEPT) / f"{data}-{task}-{name}.json")
        for data in SETS
        for task in ("zero-shot", "knn", "linear-probe", "retrieval")
        for name in ENCODERS
        if (work / KEPT / f"{data}-{task}-{name}.json").is_file()
    ]
    vidssl(work, "compare", *files, "--output", "compare")
    record = read_result(work / "compare" / "compare.json")
    shutil.copy(work / "compare" / "compare.json", RESULTS / "encoders_real.json")
    shutil.copy(work / "compare" / "compare.png", RESULTS / "encoders_real.png")
    names = {source: name for name, source in ENCODERS.items()}
    lines = [
        f"`vidssl compare` of {len(files)} results; 8 frames over the whole clip, 128 pixels; intervals and differences over recordings, 95 %. "
        f"{sum(used.values()) / 60:.0f} minutes of one core in all.",
        "",
        "| | on | row | encoder | score | chance | difference to the first | p, Holm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    chance = {one["protocol"]: one["chance"] for one in record["results"]}
    for line in table_rows(record):
        source = line["result"].split(" (")[0].removesuffix(", random weights")
        lines.append(
            f"| {line['protocol']}: {line['task']} | {line['data'].removesuffix('-val.csv').removesuffix('-train.csv')} | {line['row']} | "
            f"{names[source]} | {_percent(line['value'], line['low'], line['high'])} | {100 * chance[line['protocol']]:.1f} | "
            f"{_percent(line.get('difference'), line.get('difference_low'), line.get('difference_high'), '+')} | "
            f"{'' if line.get('p_holm') is None else format(line['p_holm'], '.2g')} |"
        )
    said = [line for line in notes(record) if " is not comparable with " not in line]
    said.append(
        "numbers of different letters are not comparable; encoders_real.json has in what their protocols differ"
    )
    lines += ["", *(f"- {line}" for line in said), "", *_time(work), "", *_geometry(work)]
    return "\n".join(lines) + "\n"


def _percent(value: Any, low: Any, high: Any, sign: str = "") -> str:
    if value is None:
        return ""
    between = "" if low is None else f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return f"{100 * value:{sign}.1f}{between}"


def _time(work: Path) -> Iterator[str]:
    """What each knows of time, `vidssl temporal`."""
    found = {
        name: read_result(file)
        for name in ENCODERS
        if (file := work / KEPT / f"{SETS[-1]}-temporal-{name}" / "temporal.json").is_file()
    }
    questions = [key for key in next(iter(found.values()))["scores"] if key.startswith("trained, ")]
    yield f"Does it use time? `vidssl temporal` on the test clips of {SETS[-1]}:"
    yield ""
    yield f"| | {' | '.join(found)} |"
    yield "|---" * (len(found) + 1) + "|"
    for question in questions:
        scores = [one["scores"].get(question) for one in found.values()]
        cells = ["" if x is None else _percent(x["top1"], *x["top1_interval"]) for x in scores]
        yield f"| {question.removeprefix('trained, ')} | {' | '.join(cells)} |"


def _geometry(work: Path) -> Iterator[str]:
    """Rank and spread of the features, `vidssl geometry`."""
    keys = ("dimensions", "rankme", "uniformity", "spectrum_exponent")
    yield f"Features of the same clips, `vidssl geometry`, beside white noise of their size in brackets: {', '.join(keys)}:"
    yield ""
    yield f"| | {' | '.join(keys)} |"
    yield "|---" * (len(keys) + 1) + "|"
    for name in ENCODERS:
        file = work / KEPT / f"{SETS[-1]}-geometry-{name}" / "geometry.json"
        if not file.is_file():
            continue
        rows = read_result(file)["rows"]
        noise = next(row for title, row in rows.items() if "noise" in title)
        cells = [f"{_short(rows['trained'].get(key))} ({_short(noise.get(key))})" for key in keys]
        yield f"| {name} | {' | '.join(cells)} |"


def _short(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="folder with manifest.csv")
    parser.add_argument(
        "--encoders",
        nargs="*",
        choices=list(ENCODERS),
        default=list(ENCODERS),
        help="to measure now; none: the page alone",
    )
    parser.add_argument("--work", type=Path, default=Path("runs/encoders"))
    arguments = parser.parse_args()
    started = time.process_time()
    prepare(arguments.videos, arguments.work)
    used = measure(arguments.work, arguments.encoders)
    text = page(arguments.work, used)
    (RESULTS / "encoders_real.md").write_text(text)
    print(text, f"{time.process_time() - started:.0f} s of this process", flush=True)


if __name__ == "__main__":
    main()
