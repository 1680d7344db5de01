"""Runs found in folders, side by side: how far they are, what they differ in, what they scored, and their curves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from vidssl.config.recipe import steps_of
from vidssl.errors import VidsslError, check_choice
from vidssl.files import LATEST, read_json, whole_file
from vidssl.runs import CONFIG
from vidssl.training.conditions import ENVIRONMENT
from vidssl.training.lock import is_held

LOG = "log.jsonl"
# What every run differs in, which tells nothing.
_ITS_OWN = ("output",)


class RunRecord(NamedTuple):
    """What the folder of a run says.

    Attributes:
        folder: of the run.
        state: "done"; "running"; "stopped", when it was told to; "ended early", by a mistake or a kill; or what about it
            cannot be read.
        step, steps: the last one that was logged, and of all, None where that is not known.
        recipe: all keys by dotted name.
        logs: by quantity its (step, value) pairs.
        scores: by task and data, such as "knn ucf101", the top-1 of "trained" and "untrained".
    """

    folder: Path
    state: str
    step: int
    steps: int | None
    recipe: dict[str, Any]
    logs: dict[str, list[tuple[int, float]]]
    scores: dict[str, dict[str, float]]


def find_runs(folders: Sequence[str | Path]) -> list[RunRecord]:
    """The runs in folders, however deep; inside a run nothing is looked for.

    Raises:
        VidsslError: for a folder that is not there, or when there is no run in any of them.
    """
    found: list[Path] = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise VidsslError(
                f"{folder}: {'is a file; a folder is needed' if folder.is_file() else 'no such folder'}"
            )
        found += [path for path in _search(folder) if path not in found]
    if not found:
        raise VidsslError(
            f"{', '.join(map(str, folders))}: no run (a folder with {CONFIG} and {LATEST} or {LOG})"
        )
    return [read_run(folder) for folder in found]


def _search(folder: Path) -> Iterator[Path]:
    if (folder / CONFIG).is_file() and ((folder / LATEST).is_file() or (folder / LOG).is_file()):
        yield folder
        return
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink()):
        if not inner.name.startswith("."):
            yield from _search(inner)


def read_run(folder: Path) -> RunRecord:
    """What the folder of a run says; a line of the log, or a result, that cannot be read is left out."""
    try:
        recipe = dict(_flat(yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))))
    except (OSError, yaml.YAMLError, UnicodeDecodeError, AttributeError):
        return RunRecord(folder, f"{CONFIG} cannot be read", 0, None, {}, {}, {})
    logs = _read_log(folder / LOG)
    step = max((pairs[-1][0] for pairs in logs.values()), default=0)
    steps = recipe.get("train.steps") or _steps_of_epochs(folder, recipe)
    return RunRecord(folder, _state(folder, step, steps), step, steps, recipe, logs, _scores(folder))


def _steps_of_epochs(folder: Path, recipe: Mapping[str, Any]) -> int | None:
    """From the number of videos that the run began with."""
    try:
        videos = read_json(folder / ENVIRONMENT)["data"]["videos"]
        epochs, batch_size = recipe["train.epochs"], recipe["train.batch_size"]
        return steps_of(epochs, videos, recipe.get("data.repeats", 1), batch_size)
    except (VidsslError, LookupError, TypeError, ZeroDivisionError):
        return None


def _state(folder: Path, step: int, steps: int | None) -> str:
    if is_held(folder):
        return "running"
    try:
        latest = read_json(folder / LATEST) if (folder / LATEST).is_file() else {}
    except VidsslError:
        return f"{LATEST} cannot be read"
    if latest.get("stopped"):
        return "stopped"
    ended = step == steps if steps else str(latest.get("checkpoint")).endswith(f"_{step:08d}")
    return "done" if ended else "ended early"


def _read_log(file: Path) -> dict[str, list[tuple[int, float]]]:
    logs: dict[str, list[tuple[int, float]]] = {}
    text = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    for line in text.splitlines():
        try:
            row = json.loads(line)
            step = int(row.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError, OverflowError):
            continue  # the last line of a run that was killed while it wrote
        for name, value in row.items():
            if isinstance(value, int | float):
                logs.setdefault(name, []).append((step, float(value)))
    return logs


def _scores(folder: Path) -> dict[str, dict[str, float]]:
    scores: dict[str, dict[str, float]] = {}
    files = [file for file in (folder / "results").glob("*.json") if file.is_file()]
    for file in sorted(files, key=lambda path: path.stat().st_mtime):
        try:
            result = json.loads(file.read_text(encoding="utf-8"))
            data = "/".join(Path((result.get("val") or result["data"])["path"]).parts[-2:])
            tops = {name: float(score["top1"]) for name, score in result["scores"].items() if "top1" in score}
            task = str(result["task"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue  # of another kind
        for name, top in tops.items():
            if name.partition(",")[0] == "trained":  # such as "trained, k = 5"
                beside = {"untrained": tops[f"un{name}"]} if f"un{name}" in tops else {}
                scores[f"{task}{name.removeprefix('trained')} {data}"] = {"trained": top, **beside}
    return scores


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and isinstance(value[0], Mapping):
            yield from _flat(dict(enumerate(value)), f"{prefix}{key}.")  # type: ignore[arg-type]
        else:
            yield f"{prefix}{key}", value


def select(runs: Sequence[RunRecord], wanted: Sequence[str]) -> list[RunRecord]:
    """The runs whose recipes have the values that ``key=value`` strings say; the values are YAML.

    Raises:
        VidsslError: for a string of another form, or a key that no run has.
    """
    known = sorted({"state", *(key for run in runs for key in run.recipe)})
    kept = list(runs)
    for condition in wanted:
        key, equals, text = condition.partition("=")
        if not equals:
            raise VidsslError(f"--where {condition!r}: expected key=value, such as model.name=ViT-B-16")
        check_choice("--where", key, known, "{name} {value!r}: no run has this key{guess}")
        try:
            value = text if key == "state" else yaml.safe_load(text)
        except yaml.YAMLError:
            raise VidsslError(f"--where {condition!r}: {text!r} is not a YAML value") from None
        if key == "state":
            check_choice(
                "--where state",
                text,
                {run.state for run in runs},
                "{name} {value!r}{guess} (there is {allowed})",
            )
        kept = [run for run in kept if (run.state if key == "state" else run.recipe.get(key)) == value]
    return kept


def differences(runs: Sequence[RunRecord]) -> dict[str, list[Any]]:
    """The keys whose values are not the same in all recipes, with the value of each run (None where it has no such key)."""
    keys = dict.fromkeys(key for run in runs for key in run.recipe if key not in _ITS_OWN)
    values = {key: [run.recipe.get(key) for run in runs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def draw_curves(runs: Sequence[RunRecord], quantities: Sequence[str], file: Path) -> None:
    """One panel a quantity, one line a run, as PNG.

    Raises:
        VidsslError: for a quantity that no run logged, or when matplotlib is not there.
    """
    known = sorted({name for run in runs for name in run.logs})
    for name in quantities:
        check_choice("--curve", name, known, "{name} {value!r}: no run logged it{guess} (logged: {allowed})")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise VidsslError('--plot: needs matplotlib: pip install "vidssl[plots]"') from None
    figure = Figure(figsize=(7, 2.6 * len(quantities)), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(len(quantities), squeeze=False)[:, 0], quantities, strict=True):
        for run in runs:
            if pairs := run.logs.get(name):
                axes.plot(*zip(*pairs, strict=True), label=str(run.folder), linewidth=1.2)
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    axes.set_xlabel("step")
    figure.axes[0].legend(fontsize=7)
    with whole_file(file) as partial:
        figure.savefig(partial, format="png", dpi=120)
