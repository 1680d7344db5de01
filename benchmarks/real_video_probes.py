"""What other probes than the linear one on all labels make of adapted heads: attention over frames, few labels, order and direction of time.

    OMP_NUM_THREADS=1 python benchmarks/real_video_probes.py --videos VIDEOS --work FOLDER --seeds 0 1 2

FOLDER is that of real_video.py, which keeps features and trained heads there; a head that is missing is trained. About a minute of one core for
each head, image model or grid and seed. Written to benchmarks/results/real_video_probes.json and .md.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from real_videos.cells import ROWS, fingerprint, trained_run
from real_videos.further import (
    DIRECTION,
    ORDER,
    SHOTS,
    Reader,
    attentive,
    beside,
    few_labels,
    head_reader,
    image_readers,
    side_by_side,
    time_questions,
)
from real_videos.sets import OTHERS, REPORTED, Set, keep_features, read_set, weights_of

import vidssl
from vidssl.evaluation.metrics import group_interval
from vidssl.files import read_json, write_json, write_text

RESULTS = Path(__file__).parent / "results" / "real_video_probes"
BASELINES = RESULTS.with_name("real_video.json")
IMAGES, UNTRAINED = ("image model", "its grid"), "untrained head"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--videos", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), metavar="ROW", default=["infonce", "hsic"])
    parser.add_argument("--sets", nargs="+", choices=(*REPORTED, *OTHERS), metavar="SET", default=list(REPORTED))  # fmt: skip
    parser.add_argument("--table-only", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS.with_suffix(".json")
    record: dict[str, Any] = read_json(file) if file.is_file() else {"found": [], "groups": {}}
    if not arguments.table_only:
        ask_all(arguments, record, file)
    linear = read_json(BASELINES)["baselines"] if BASELINES.is_file() else {}
    text = "\n".join(tables(record, linear, [name for name in (*REPORTED, *OTHERS) if name in record["groups"]]))  # fmt: skip
    write_text(RESULTS.with_suffix(".md"), text)
    print(text)


def ask_all(arguments: argparse.Namespace, record: dict[str, Any], file: Path) -> None:
    """Ask of each what is not known, and write it down when it is done."""
    work = arguments.work
    needs = {control for row in arguments.rows if (control := ROWS[row].control)}
    keep_features(arguments.videos, work, tuple(arguments.sets), "cpu", needs)
    sets = {name: read_set(arguments.videos, work, name) for name in arguments.sets}
    record["groups"] |= {name: of.groups.tolist() for name, of in sets.items()}
    for seed in arguments.seeds:
        for subject in (*IMAGES, UNTRAINED, *arguments.rows):
            mark = {"subject": subject, "seed": seed, "recipe": None if subject in IMAGES else fingerprint(_row(subject))}  # fmt: skip
            known = [one["set"] for one in record["found"] if mark.items() <= one.items()]
            for name, of in sets.items():
                if name not in known:
                    before = time.process_time()
                    found = ask(reader(subject, seed, of, work), of, seed, subject)
                    record["found"] = [x for x in record["found"] if (x["subject"], x["seed"], x["set"]) != (subject, seed, name)]  # fmt: skip
                    record["found"].append({**mark, "set": name, **found})
                    write_json(file, record)
                    print(f"{subject} seed {seed}, {name}: {time.process_time() - before:.0f} s", flush=True)


def _row(subject: str) -> str:
    return "hsic" if subject == UNTRAINED else subject


def reader(subject: str, seed: int, of: Set, work: Path) -> Reader:
    """What reads the features of a subject from kept rows."""
    if subject in IMAGES:
        return image_readers(of)[subject]
    run = trained_run(_row(subject), seed, work, weights_of(work))
    return head_reader(vidssl.load_encoder(run / "initial" if subject == UNTRAINED else run))


def ask(read: Reader, of: Set, seed: int, subject: str) -> dict[str, Any]:
    """All probes; of the image model no order of time, which neither its mean nor its spread depends on."""
    together = side_by_side(of) if subject == IMAGES[1] else read
    found: dict[str, Any] = {"attentive": attentive(read, of, seed), "few": few_labels(read, of, seed)}
    found["beside"] = beside(together, of)
    return found if subject in IMAGES else found | time_questions(read, of, seed)


def tables(record: dict[str, Any], linear: dict[str, Any], sets: Sequence[str]) -> list[str]:
    """Markdown tables of what is known; `linear` are the linear probe's answers to all that needs no training."""
    subjects = list(dict.fromkeys(one["subject"] for one in record["found"]))
    untrained = {
        name: [mean for subject in (*IMAGES, UNTRAINED) if (mean := _right(record, subject, name, "attentive")) is not None]
        for name in sets
    }  # fmt: skip
    known = {
        name: [_digits([probes["linear"]])[0] for probes in linear.get(name, {}).values()] for name in sets
    }
    shown = []
    for probe, title, below in (
        ("attentive", "attentive probe, %", {name: [x.mean(0) for x in found] for name, found in untrained.items()}),
        ("beside", "linear probe on these features (of the grid: its frames side by side) and the grid's spread together, %", known),
        (ORDER, f"{ORDER}, % (chance 50)", {}),
        (DIRECTION, f"{DIRECTION}, % (chance 50)", {}),
    ):  # fmt: skip
        lines = []
        for subject in subjects:
            cells = [_share(record, subject, name, probe, below.get(name)) for name in sets]
            if any(cells):
                lines.append(f"| {subject} | {' | '.join(cells)} |")
        shown.append(_table(title, sets, lines))
    shots = " / ".join(map(str, SHOTS))
    lines = []
    for subject in subjects:
        cells = []
        for name in sets:
            found = [x["few"] for x in record["found"] if (x["subject"], x["set"]) == (subject, name)]
            means = [100 * statistics.fmean(d for few in found for d in few[str(n)]) for n in SHOTS if found]
            cells.append(" / ".join(f"{mean:.1f}" for mean in means))
        lines.append(f"| {subject} | {' | '.join(cells)} |")
    shown.append(_table(f"linear probe on {shots} clips a class, %", sets, lines))
    return shown


def _table(title: str, sets: Sequence[str], lines: Sequence[str]) -> str:
    return "\n".join([f"| {title} | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|", *lines]) + "\n"


def _digits(found: Sequence[str], best: int = 1) -> torch.Tensor:
    """(seeds, N) of strings of digits up to `best`."""
    return torch.tensor([[int(digit) / best for digit in one] for one in found]).double()


def _right(record: dict[str, Any], subject: str, name: str, probe: str) -> torch.Tensor | None:
    """(seeds, N) how far each clip is right."""
    found = [x[probe] for x in record["found"] if (x["subject"], x["set"]) == (subject, name) and probe in x]
    return _digits(found, 2 if probe in (ORDER, DIRECTION) else 1) if found else None


def _share(record: dict[str, Any], subject: str, name: str, probe: str, below: list[torch.Tensor] | None) -> str:  # fmt: skip
    """Mean over seeds of the share that is right and their range; its interval over recordings, or that of what it is more than the best below it."""
    right = _right(record, subject, name, probe)
    if right is None:
        return ""
    values, groups = 100 * right.mean(1), torch.tensor(record["groups"][name])
    spread = f" ({values.min():.1f} to {values.max():.1f})" if len(values) > 1 else ""
    if not below:
        low, high = group_interval(right.mean(0), groups)
        return f"{values.mean():.1f}{spread} [{100 * low:.1f}, {100 * high:.1f}]"
    if subject in (*IMAGES, UNTRAINED) and probe == "attentive":
        return f"{values.mean():.1f}{spread}"
    change = right.mean(0) - max(below, key=lambda x: x.mean())
    low, high = group_interval(change, groups)
    return f"{values.mean():.1f}{spread}; {100 * change.mean():+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"


if __name__ == "__main__":
    main()
