"""`vidssl try`: index, check, adapt, measure before and after, report. Everything lands in one folder, and can be gone on with.

try.json              what was planned, and what was found, in words and numbers
train.csv  val.csv    the videos: adapted on, held out
features/  run/       kept features; the run, with its results
report.html
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_value, counted
from vidssl.evaluation import EvalOptions, knn, linear_probe
from vidssl.evaluation.features import extract_features
from vidssl.evaluation.report import result_file
from vidssl.evaluation.setup import load_subject
from vidssl.files import read_json, write_json
from vidssl.reporting import write_report
from vidssl.reporting.grouping import cluster_count, tightness
from vidssl.reporting.videos import MOST, spread
from vidssl.trying import words
from vidssl.trying.adapt import DRAWS, draw_features, measure, recipe_for, setting_for, train
from vidssl.trying.budget import fit
from vidssl.trying.encoders import Choice, choose_encoder
from vidssl.trying.videos import find_videos, in_a_line

RECORD, TRAIN, VAL, FEATURES, RUN, PAGE = "try.json", "train.csv", "val.csv", "features/train.safetensors", "run", "report.html"  # fmt: skip
SHOWN = 10  # broken videos that are named on the screen


def try_folder(
    folder: str | Path,
    output: str | Path = "runs/try",
    *,
    encoder: str | None = None,
    minutes: float = 5.0,
    seed: int = 0,
    resume: bool = False,
    dry: bool = False,
    workers: int = 2,
) -> Path | None:
    """Adapt an image model to the videos of a folder for some minutes, and say what that was good for.

    Args:
        folder: class folders, loose files, or a list.
        output: folder of everything that comes of it.
        encoder: image model with weights, as in `load_encoder`; None: see `choose_encoder`.
        minutes: that it may take, about.
        seed: of the held-out part, draws and training.
        resume: go on in `output`.
        dry: say what would be done and how long it takes; nothing is kept.
        workers: decoding processes.

    Returns:
        The report; None of a dry run.

    Raises:
        VidsslError: for a folder, encoder or output that will not do; nothing has been changed then.
        Stopped: as `vidssl.training.pretrain`; `resume` goes on.
    """
    check_value("minutes", minutes, 0 < minutes < 10_000, "above 0 and below 10000")
    output = Path(output)
    asked = {"folder": str(Path(folder).expanduser().resolve()), "encoder": encoder, "minutes": minutes, "seed": seed}  # fmt: skip
    planned = _claimed(output, asked, resume)
    if planned is None:
        planned, choice = _plan(Path(folder), output, asked, workers, dry)
        if dry:
            return None
    else:
        if dry:
            raise VidsslError(f"--dry-run: {output}: is begun already; leave out --resume or --dry-run")
        choice = choose_encoder(encoder)
    run = _adapted(choice, planned, output, workers)
    return _reported(choice, planned, output, run, workers)


def _claimed(output: Path, asked: dict[str, Any], resume: bool) -> dict[str, Any] | None:
    """The record of a try that is gone on with; None where one begins. Changes nothing."""
    if output.exists() and not output.is_dir():
        raise VidsslError(f"--output {output}: is a file; a folder is needed")
    file = output / RECORD
    if not file.is_file():
        if output.is_dir() and any(path.name not in (TRAIN, VAL) for path in output.iterdir()):
            raise VidsslError(f"--output {output}: is not empty and holds no try; choose another folder")
        return None
    if not resume:
        raise VidsslError(
            f"--output {output}: holds a try; go on with it by --resume, or choose another folder"
        )
    record = read_json(file)
    before = record.get("asked")
    if not isinstance(before, dict) or not isinstance(record.get("plan"), dict):
        raise VidsslError(f"{file}: is not as a try writes it; choose another folder")
    changed = [
        f"{key} {before.get(key)} → {value}" for key, value in asked.items() if before.get(key) != value
    ]
    if changed:
        raise VidsslError(
            f"--output {output}: holds another try ({', '.join(changed)}); choose another folder"
        )
    return record


def _plan(
    folder: Path, output: Path, asked: dict[str, Any], workers: int, dry: bool
) -> tuple[dict[str, Any], Choice]:
    """Look at the videos and the encoder, say what will be done, and (unless it is dry) write it down."""
    found = find_videos(folder, seed=asked["seed"], workers=workers)
    classes = len({*found.train.labels} - {None})
    videos = len(found.train) + (0 if found.val is None else len(found.val))
    typer.echo(
        f"{folder}: {counted(videos, 'readable video')}, {counted(classes, 'class')}; {len(found.bad)} cannot be read"
    )
    for bad in found.bad[:SHOWN]:
        typer.echo(f"  left out: {in_a_line(bad.path)}: {bad.reason}")
    if len(found.bad) > SHOWN:
        typer.echo(f"  and {len(found.bad) - SHOWN} more, see {output / RECORD}")
    for note in found.notes:
        typer.echo(note)
    choice = choose_encoder(asked["encoder"])
    typer.echo(f"image model: {choice.said}")
    setting = setting_for(choice.encoder)
    typer.echo("seeing what a few videos and a step take on this machine …")
    costs = measure(choice, setting, found.train, folder, workers=workers)
    held_out = 0 if found.val is None else len(found.val)
    schedule = fit(costs, len(found.train), held_out, DRAWS, setting.steps, asked["minutes"])
    typer.echo(schedule.in_words())
    notes = [
        f"{len(found.bad)} of {videos + len(found.bad)} videos cannot be read, and were left out"
    ] * bool(found.bad) + [*found.notes]
    if schedule.train < len(found.train):
        notes.append(
            f"{schedule.train + schedule.val} of {videos} videos, spread evenly, to fit into --minutes {asked['minutes']:g}; more minutes take more of them"
        )
        typer.echo(notes[-1])
    if schedule.total > 60 * asked["minutes"]:
        typer.echo(f"that is more than --minutes {asked['minutes']:g}; there is no less")
    record = {
        "asked": asked,
        "plan": {
            **asdict(setting),
            "batch": min(setting.batch, schedule.train),
            "steps": schedule.steps,
            "draws": schedule.draws,
            "labelled": found.val is not None,
            "seconds": schedule.seconds,
        },
        "broken": [bad.record for bad in found.bad],
        "notes": notes,
    }
    if dry:
        typer.echo("nothing was kept; leave out --dry-run to begin")
        return record, choice
    output.mkdir(parents=True, exist_ok=True)
    spread(found.train, schedule.train)[0].write(output / TRAIN)
    if found.val is not None:
        spread(found.val, schedule.val)[0].write(output / VAL)
    write_json(output / RECORD, record)
    return record, choice


def _adapted(choice: Choice, record: dict[str, Any], output: Path, workers: int) -> Path:
    """The run folder, complete."""
    plan, asked, features = record["plan"], record["asked"], output / FEATURES
    setting = setting_for(choice.encoder)
    if not features.is_file():
        typer.echo("features of the image model …")
        draw_features(
            choice, setting, output / TRAIN, features, draws=plan["draws"], seed=asked["seed"], workers=workers, folder=Path(asked["folder"])
        )  # fmt: skip
    kept = sum(video["tensor"] is not None for video in read_json(features.with_suffix(".json"))["videos"])
    batch = min(plan["batch"], kept)
    if batch < 2:
        raise VidsslError(f"{output / TRAIN}: {kept} videos could be decoded as a whole; two are needed")
    recipe = recipe_for(
        choice,
        setting,
        features.resolve(),
        output / RUN,
        batch=batch,
        steps=plan["steps"],
        seed=asked["seed"],
    )
    typer.echo("training a head over time …")
    return train(recipe)


def _reported(choice: Choice, record: dict[str, Any], output: Path, run: Path, workers: int) -> Path:
    """Measure, say what was found, and write the page."""
    typer.echo("measuring, before and after …")
    options = setting_for(choice.encoder).options(workers)
    videos = output / (VAL if record["plan"]["labelled"] else TRAIN)
    if record["plan"]["labelled"]:
        results, notes = _accuracies(choice, output, run, options)
        said = words.of_accuracies(results[0])
    else:
        results, notes = [], []
        subject = load_subject(run, options, choice.source)
        index, _ = spread(VideoIndex.read(videos), MOST)
        features = extract_features(subject, index, description="clusters")
        ok = features.ok["trained"] & features.ok["untrained"]
        count = cluster_count([None] * int(ok.sum()))
        rows = {name: features.features[name][ok] for name in ("trained", "untrained")}
        said = words.of_clusters({name: tightness(x, count) for name, x in rows.items()}, int(ok.sum()))
    helped = "Adaptation helped" in " ".join(said)
    said.append(words.next_steps(str(run), record["asked"]["folder"], helped))
    page = write_report(
        [run],
        output / PAGE,
        videos=videos,
        title=f"{Path(record['asked']['folder']).name}: before and after",
        lead=said,
        notes=[
            *record["notes"],
            *notes,
            f"untrained: the image model, {choice.name}, the mean over its frames",
        ],
        before=choice.source,
        options=options,
    )
    write_json(output / RECORD, {**record, "said": said, "notes": [*record["notes"], *notes]})
    for line in said:
        typer.echo(line)
    return page


def _accuracies(
    choice: Choice, output: Path, run: Path, options: EvalOptions
) -> tuple[list[dict[str, Any]], list[str]]:
    """Results of the protocols that can be run, the linear probe first, and why others cannot; they lie in the run folder."""
    results, notes = [], []
    for name, protocol in (("linear-probe", linear_probe), ("knn", knn)):
        try:
            result = protocol(run, output / TRAIN, output / VAL, before=choice.source, options=options)
        except VidsslError as error:
            notes.append(f"{name}: not run: {error}")
            continue
        result["notes"].append(f"untrained: the image model, {choice.name}, the mean over its frames")
        write_json(result_file(run, name, output / VAL, result), result)
        results.append(result)
    if not results:
        raise VidsslError("; ".join(notes))
    return results, notes
