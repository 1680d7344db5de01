"""Results: what each records beside its scores, the file it goes to, and the table on the screen."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.environment import environment
from vidssl.evaluation.metrics import format_score
from vidssl.evaluation.setup import Subject

Result = dict[str, Any]


def result_header(task: str, subject: Subject) -> Result:
    """What every result begins with: checkpoint, model, sampling, decoder, versions."""
    spec = subject.options.spec(subject.encoder)
    return {
        "task": task,
        "checkpoint": str(subject.path),
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
        "environment": {**environment(), "processes": distributed.world_size()},
    }


def data_record(data: str | Path, index: VideoIndex, failures: Sequence[FailedVideo]) -> dict[str, Any]:
    """What a result says of a data set: its list's hash, and every file that could not be read."""
    return {
        "path": str(data),
        "digest": index.digest,
        "videos": len(index),
        "failed": [failure.record for failure in failures],
    }


def list_hash(values: Sequence[Any]) -> str:
    """16 hex digits over a list and its order."""
    return hashlib.sha256(json.dumps(list(values)).encode()).hexdigest()[:16]


def result_file(checkpoint: Path, task: str, data: Path) -> Path:
    """``<checkpoint>/results/<task>-<last folders of the data>.json``."""
    named = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(data.resolve().parts[-2:])).strip("-.")
    return checkpoint / "results" / f"{task}-{named}.json"


def show_result(title: str, result: Mapping[str, Any]) -> None:
    """The scores as a table, then what they were measured with and which videos failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("top-1 [95 % interval]", "mean class", "top-5"):
        table.add_column(column, justify="right")
    settings = any("setting" in score for score in result["scores"].values())
    if settings:
        table.add_column("class names")
    for name, score in result["scores"].items():
        others = (f"{100 * score[key]:.1f} %" if key in score else "" for key in ("mean_class", "top5"))
        names = [score.get("setting", {}).get("names", "")] if settings else []
        table.add_row(name, format_score(score), *others, *names)
    console = Console(highlight=False)
    console.print(table)
    for line in _notes(result):
        console.print(line, markup=False, soft_wrap=True)


def _notes(result: Mapping[str, Any]) -> list[str]:
    sampling = result["sampling"]
    extent = (
        f"stride {sampling['stride']}" if sampling["stride"] else f"over {sampling['seconds'] or 'all'} s"
    )
    notes = [
        f"{sampling['clips_per_video']} clips of {sampling['frames']} frames {extent}, "
        f"{sampling['resize']} to {sampling['size']} pixels"
    ]
    if "templates" in result:
        templates = result["templates"]["list"]
        notes.append(
            f"classes: {result['classes']['source']}; {len(templates)} templates such as {templates[0]!r} "
            f"(hashes {result['classes']['hash']}, {result['templates']['hash']})"
        )
    if "names" in result:
        notes.append(_names_note(result["names"]))
    if "untrained" not in " ".join(result["scores"]):
        notes.append("the untrained encoder is not kept beside this checkpoint, so its score is missing")
    for split in ("data", "train", "val"):
        for failure in result.get(split, {}).get("failed", []):
            notes.append(f"unreadable, counted as wrong: {failure['path']}: {failure['reason']}")
    return notes


def _names_note(names: Mapping[str, Any]) -> str:
    """How much training knew of the classes' names."""
    if names["setting"] == "unknown":
        return f"class names: whether the vocabulary of training held them is unknown ({names['reason']})"
    if names["vocabulary"] is None:
        return "class names: no vocabulary was used in training (inductive)"
    return (
        f"class names: {names['known']} of {names['classes']} are in the vocabulary of training, "
        f"{names['vocabulary']} ({names['setting']})"
    )
