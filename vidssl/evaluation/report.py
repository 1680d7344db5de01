"""Results as a table on the screen and as JSON beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vidssl.evaluation.metrics import format_score
from vidssl.files import write_json


def result_file(checkpoint: Path, task: str, data: Path) -> Path:
    """``<checkpoint>/results/<task>-<last folders of the data>.json``."""
    named = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(data.resolve().parts[-2:])).strip("-.")
    return checkpoint / "results" / f"{task}-{named}.json"


def write_result(result: Mapping[str, Any], file: Path) -> None:
    """Write the result file, whole or not at all."""
    write_json(file, result)


def show_result(title: str, result: Mapping[str, Any]) -> None:
    """The scores as a table, then what they were measured with and which videos failed."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("top-1 [95 % interval]", justify="right")
    table.add_column("mean class", justify="right")
    table.add_column("top-5", justify="right")
    settings = any("setting" in score for score in result["scores"].values())
    if settings:
        table.add_column("class names")
    for name, score in result["scores"].items():
        row = [name, format_score(score), _percent(score, "mean_class"), _percent(score, "top5")]
        table.add_row(*row, *([score.get("setting", {}).get("names", "")] if settings else []))
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


def _percent(score: Mapping[str, Any], key: str) -> str:
    return f"{100 * score[key]:.1f} %" if key in score else ""
