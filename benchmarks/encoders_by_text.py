"""Three image-text encoders side by side on real clips, by what they make of words: zero-shot, text retrieval, and `vidssl compare`.

    pip install --group benchmarks
    OMP_NUM_THREADS=1 python benchmarks/encoders_by_text.py VIDEOS --work FOLDER

VIDEOS is as for `encoders.py`. The encoders see pictures and texts with the same real weights (`image_text_model.py`) and differ in the map
between them:

- real: fitted to the names of all 1,000 classes of ImageNet;
- half: to those of every second class, so that it knows fewer words;
- control: to names that were dealt out at random. All else being equal, it is what a number means that has nothing to do with words.

Zero-shot is of the test clips of each set and the texts of its `classes.csv`. Text retrieval is of the first test clip of each class of all
sets, and the text of its class. What is in FOLDER already is kept. Writes benchmarks/results/encoders_by_text.{md,json,png}.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from pathlib import Path

from encoders import SHOWN, vidssl
from image_text_model import write_model

from vidssl.evaluation.results.schema import read_result
from vidssl.evaluation.side_by_side.show import notes, table_rows

RESULTS = Path(__file__).parent / "results"
SETS = ("ucf101", "ut_interaction")
MODELS = {"real": {}, "half": {"every": 2}, "control": {"shuffled": True}}


def prepare(videos: Path, work: Path) -> None:
    """Lists, captions and models that are not there yet."""
    work.mkdir(parents=True, exist_ok=True)
    if not (work / "videos").exists():
        (work / "videos").symlink_to(videos.resolve(), target_is_directory=True)
    first: dict[str, tuple[str, str, str]] = {}
    for data in SETS:
        with (videos / data / "classes.csv").open(newline="") as file:
            said = {row["name"]: row["text"] for row in csv.DictReader(file)}
        with (videos / "manifest.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["path"].startswith(f"{data}/val/")]
        listed = [(f"videos/{row['path']}", row["label"], row["group"]) for row in rows]
        write(work / f"{data}.csv", ("path", "label", "group"), listed)
        for path, label, _ in listed:
            first.setdefault(label, (path, label, said[label]))
    write(work / "one.csv", ("path", "label"), [(path, label) for path, label, _ in first.values()])
    write(work / "captions.csv", ("video_id", "sentence"), [(path, text) for path, _, text in first.values()])
    for name, changes in MODELS.items():
        if not (work / name / "open_clip_model.safetensors").is_file():
            write_model(work / name, **changes)


def write(file: Path, header: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])


def measure(work: Path) -> list[str]:
    """Run what has no result yet; the result files."""
    files = []
    for name in MODELS:
        for data in SETS:
            asked = (
                "zero-shot",
                f"local-dir:{name}",
                f"{data}.csv",
                "--classes",
                f"videos/{data}/classes.csv",
            )
            files.append((f"{data}-{name}.json", asked))
        asked = ("retrieval", f"local-dir:{name}", "one.csv", "--captions", "captions.csv")
        files.append((f"retrieval-{name}.json", asked))
    for file, asked in files:
        if not (work / file).is_file():
            vidssl(work, *asked, *SHOWN, "--output", file)
        read_result(work / file)  # of its form, or an error
    return [file for file, _ in files]


def page(work: Path, files: list[str]) -> str:
    """The tables in Markdown; the picture and the JSON of zero-shot are those of `vidssl compare`."""
    asked = [file for file in files if not file.startswith("retrieval")]
    vidssl(work, "compare", *asked, "--output", "compare")
    record = read_result(work / "compare" / "compare.json")
    for ending in ("json", "png"):
        shutil.copy(work / "compare" / f"compare.{ending}", RESULTS / f"encoders_by_text.{ending}")
    chance = {one["protocol"]: one["chance"] for one in record["results"]}
    lines = [
        "8 frames over the whole clip, 128 pixels; top-1, intervals and differences over recordings, 95 %. `real` and `half` are real encoders, `control` is not.",
        "",
        "| zero-shot on | row | encoder | score | chance | difference to real | p, Holm |",
        "|---|---|---|---|---|---|---|",
    ]
    for line in table_rows(record):
        encoder = line["result"].split(" (")[0].removeprefix("local-dir:")
        p = line.get("p_holm")
        between = percent(
            line.get("difference"), line.get("difference_low"), line.get("difference_high"), "+"
        )
        lines.append(
            f"| {line['data'].removesuffix('.csv')} | {line['row']} | {encoder} | {percent(line['value'], line['low'], line['high'])} | "
            f"{100 * chance[line['protocol']]:.1f} | {between} | {'' if p is None else format(p, '.2g')} |"
        )
    lines += ["", *(f"- {line}" for line in notes(record) if " is not comparable with " not in line), ""]
    lines += ["| text retrieval | encoder | R@1 | R@5 | median rank |", "|---|---|---|---|---|"]
    for way in ("text to video", "video to text"):
        for name in MODELS:
            scores = read_result(work / f"retrieval-{name}.json")["scores"]
            own, luck = scores[f"trained, {way}"], scores[f"chance, {way}"]
            lines.append(
                f"| {way} | {name} | {percent(own['R@1'], *own['R@1_interval'])} ({100 * luck['R@1']:.1f} by chance) | "
                f"{100 * own['R@5']:.1f} ({100 * luck['R@5']:.1f}) | {own['median_rank']:g} |"
            )
    return "\n".join(lines) + "\n"


def percent(value: float | None, low: float | None, high: float | None, sign: str = "") -> str:
    if value is None:
        return ""
    between = "" if low is None or high is None else f" [{100 * low:{sign}.1f}, {100 * high:{sign}.1f}]"
    return f"{100 * value:{sign}.1f}{between}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("videos", type=Path, help="folder with manifest.csv")
    parser.add_argument("--work", type=Path, default=Path("runs/encoders_by_text"))
    given = parser.parse_args()
    prepare(given.videos, given.work)
    text = page(given.work, measure(given.work))
    (RESULTS / "encoders_by_text.md").write_text(text)
    print(text)
