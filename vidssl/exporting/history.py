"""What a run's folder says of its encoder: recipe, data, and the results of evaluations with their baselines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import yaml

from vidssl.errors import VidsslError
from vidssl.exporting.places import without_places
from vidssl.files import read_json
from vidssl.models.stored import find_encoder
from vidssl.runs import CONFIG, find_initial

ENVIRONMENT, RESULTS = "environment.json", "results"


@dataclass(frozen=True)
class History:
    """Where an encoder comes from, without folders of this machine.

    Attributes:
        recipe: the resolved one; None where the encoder is of no run.
        environment: versions, device, processes, and `data`: number of videos and digest of their list.
        checkpoint: name of the exported one, or of the folder of an encoder made of one.
        results: of this checkpoint, with scores.
        others: how many results of other checkpoints the run has.
    """

    recipe: dict[str, Any] | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    results: tuple[dict[str, Any], ...] = ()
    others: int = 0


def history(source: str | Path) -> History:
    """What is known of the encoder that `source` names; of a mere name, nothing.

    Raises:
        VidsslError: when a file of the run is damaged.
    """
    initial = find_initial(Path(source).expanduser())
    if initial is None:
        return History()
    folder = find_encoder(source).resolve()
    if folder == initial.resolve():
        return History()  # the encoder before the first step was not trained
    run, measured = initial.parent, folder.parent if folder.name == "encoder" else folder
    try:
        recipe = yaml.safe_load((run / CONFIG).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise VidsslError(f"{run / CONFIG}: cannot be read: {' '.join(str(error).split())}") from None
    file = run / ENVIRONMENT
    found = [_result(place) for place in _result_files(run, measured)]
    scored = [result for result in found if result is not None]
    own = [result for result in scored if PurePath(result["loaded"]).name == measured.name]
    recipe = {key: value for key, value in recipe.items() if key != "output"}
    recipe["data"] = _named(recipe.get("data", {}))
    return History(
        recipe=without_places(recipe),
        environment=read_json(file) if file.is_file() else {},
        checkpoint=measured.name,
        results=tuple(own),
        others=len(scored) - len(own),
    )


def _result_files(run: Path, measured: Path) -> Iterator[Path]:
    for folder in dict.fromkeys((run, measured, measured / "encoder")):
        yield from sorted((folder / RESULTS).glob("*.json"))


def _result(file: Path) -> dict[str, Any] | None:
    """A result with accuracies; None for other files, and for damaged ones: a card is no place to fail over them."""
    try:
        record = read_json(file)
    except VidsslError:
        return None
    scores = record.get("scores")
    named = {"task", "loaded", "sampling"} <= record.keys() and isinstance(scores, dict)
    return record if named and scores and all("top1" in score for score in scores.values()) else None


def _named(value: Any) -> Any:
    """Data sets by their last part, wherever they lie."""
    if isinstance(value, dict):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item) for item in value]
    return PurePath(value).name if isinstance(value, str) and "/" in value else value
