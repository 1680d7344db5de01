"""Results: what each records beside its scores, the file it goes to, and the table on the screen."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vidssl import distributed
from vidssl.data.manifest.digest import data_digest
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.environment import environment
from vidssl.evaluation.metrics import format_score
from vidssl.evaluation.notes import result_notes, row_title
from vidssl.evaluation.setup import Subject
from vidssl.files import newest_checkpoint
from vidssl.models.sources import CONFIG_FILE

if TYPE_CHECKING:
    from rich.table import Table

Result = dict[str, Any]


def result_header(task: str, subject: Subject) -> Result:
    """What every result begins with: checkpoint, model, sampling, decoder, versions."""
    spec = subject.options.spec(subject.encoder)
    return {
        "task": task,
        "checkpoint": str(subject.path),
        "loaded": str(newest_checkpoint(subject.path) or subject.path),
        "model": {key: value for key, value in subject.encoder.spec.items() if key != "model_cfg"},
        "sampling": {
            "frames": spec.clip.frames,
            "seconds": None if spec.clip.seconds in (None, math.inf) else spec.clip.seconds,
            "stride": spec.clip.stride,
            "clips_per_video": spec.clips_per_video,
            "crops": spec.crops,
            "size": spec.size,
            "resize": spec.resize,
        },
        "decoder": subject.options.backend,
        **({"random_weights": True} if _random(subject) else {}),
        "environment": {**environment(), "processes": distributed.world_size()},
    }


def _random(subject: Subject) -> bool:
    return subject.encoder.spec.get("pretrained") is None and not subject.path.exists()


def data_record(
    data: str | Path,
    index: VideoIndex,
    failures: Sequence[FailedVideo],
    *,
    unlabelled: Sequence[str] = (),
    fewer_clips: int = 0,
) -> dict[str, Any]:
    """What a result says of a data set: hashes of its list and of its files' content, and every video that is not what it should be.

    Args:
        index: the videos that were looked at.
        failures: those of them that could not be used.
        unlabelled: further ones, which were not looked at because they have no label.
        fewer_clips: how many are too short for as many different clips as were asked for.
    """
    order = sorted(range(len(index)), key=index.paths.__getitem__)
    return {
        "path": str(data),
        "digest": index.digest,
        "content": distributed.on_first(lambda: data_digest(index.subset(order))[:16]),
        "videos": len(index),
        **({"groups": len({*index.groups} - {None})} if index.groups else {}),
        "failed": [failure.record for failure in failures],
        "missing": list(index.missing),
        "unlabelled": list(unlabelled),
        "remarks": list(index.remarks),
        "fewer_clips": fewer_clips,
    }


def list_hash(values: Sequence[Any]) -> str:
    """16 hex digits over a list and its order."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def result_file(checkpoint: Path, task: str, data: Path, record: Mapping[str, Any]) -> Path:
    """``<checkpoint>/results/<task>-<last folders of the data>[-<step>]-<hash>.json``.

    Of a model that is only named, or lies in a folder of open_clip's: ``results/`` of the working folder, with its name.
    The 8 digits are of all that the record says, but for its `environment`: results that differ never share a file, and
    one that is measured again replaces itself.

    Args:
        record: JSON-able.
    """
    names, folder = [_slug(data.resolve().parts)], checkpoint
    if not checkpoint.is_dir() or (checkpoint / CONFIG_FILE).is_file():
        names, folder = [_slug(checkpoint.parts), *names], Path()
    newest = newest_checkpoint(checkpoint)
    said = json.dumps({key: value for key, value in record.items() if key != "environment"}, sort_keys=True)
    digits = hashlib.sha256(said.encode()).hexdigest()[:8]
    parts = [task, *names, *([] if newest is None else [newest.name]), digits]
    return folder / "results" / f"{'-'.join(parts)}.json"


def _slug(parts: Sequence[str]) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(parts[-2:])).strip("-.")


def show_result(title: str, result: Mapping[str, Any]) -> None:
    """The scores as a table, then what they were measured with and which videos failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    if result["task"] == "retrieval":
        _add_recalls(table, _titled(result))
    else:
        _add_accuracies(table, _titled(result))
    console = Console(highlight=False)
    console.print(table)
    for line in result_notes(result):
        console.print(line, markup=False, soft_wrap=True)


def _titled(result: Mapping[str, Any]) -> dict[str, Any]:
    return {row_title(name, result): score for name, score in result["scores"].items()}


def _add_accuracies(table: Table, scores: Mapping[str, Any]) -> None:
    calibrated = any("calibration_error" in score for score in scores.values())
    keys = {"mean class": "mean_class", "top-5": "top5"} | (
        {"ECE": "calibration_error"} if calibrated else {}
    )
    for column in ("top-1 [95 % interval]", *keys):
        table.add_column(column, justify="right")
    settings = any("setting" in score for score in scores.values())
    if settings:
        table.add_column("class names")
    for name, score in scores.items():
        others = (f"{100 * score[key]:.1f} %" if key in score else "" for key in keys.values())
        names = [score.get("setting", {}).get("names", "")] if settings else []
        table.add_row(name, format_score(score), *others, *names)


def _add_recalls(table: Table, scores: Mapping[str, Any]) -> None:
    keys = [key for key in next(iter(scores.values())) if re.fullmatch(r"R@\d+", key)]
    for column in ("R@1 [95 % interval]", *keys[1:], "median rank"):
        table.add_column(column, justify="right")
    for name, score in scores.items():
        others = (f"{100 * score[key]:.1f} %" for key in keys[1:])
        first = {
            "top1": score["R@1"],
            **({"top1_interval": score["R@1_interval"]} if "R@1_interval" in score else {}),
        }
        median = score.get("median_rank")
        table.add_row(name, format_score(first), *others, "" if median is None else f"{median:g}")
