"""Whether training in a concept space knew the names of the classes it is evaluated on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidssl.concepts.names import match_names
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.evaluation.classes import ClassList
from vidssl.runs import CONFIG


def name_setting(run: Path | None, classes: ClassList) -> dict[str, Any]:
    """Whether training in a concept space knew the names of the classes it is evaluated on.

    Args:
        run: the run folder; None where an encoder lies outside one.
        classes: those of the evaluation.

    Returns:
        `vocabulary` (of the run's concept objectives, None without any), `known`: how many of the `classes` are names or
        aliases in it, joined by name, and `setting`: ``inductive`` for none of them, ``transductive`` for all,
        ``partly transductive`` for some, ``unknown`` where the vocabulary cannot be told.
    """
    record: dict[str, Any] = {"vocabulary": None, "known": 0, "classes": len(classes.names)}
    try:
        if run is None:
            raise VidsslError("no run folder")
        record["vocabulary"] = vocabulary = training_vocabulary(run)
        concepts = () if vocabulary is None else load_concepts(vocabulary).concepts
    except VidsslError as error:
        return {**record, "known": None, "setting": "unknown", "reason": str(error)}
    words = [word for concept in concepts for word in (concept.name, *concept.aliases)]
    known = sum(position is not None for position in match_names(classes.names, words))
    kinds = {0: "inductive", len(classes.names): "transductive"}
    return {**record, "known": known, "setting": kinds.get(known, "partly transductive")}


def training_vocabulary(run: Path) -> str | None:
    """The vocabulary of a run's concept objectives, joined by ``+``; None when it has none."""
    objectives = load_config(run / CONFIG).objective
    given = [
        str(options.get("vocabulary", DEFAULT_VOCABULARY))
        for name, options in objectives.items()
        if options.get("objective", name) in ("concept", "phases")
    ]
    return "+".join(dict.fromkeys(given)) or None
