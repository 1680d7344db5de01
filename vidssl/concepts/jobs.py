"""What ``vidssl concepts validate | convert | stats | build`` do: files in, JSON-able records out, nothing printed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vidssl.concepts.build import Progress, build_space
from vidssl.concepts.prompts import ConceptFile, Problem, schema_problems
from vidssl.concepts.readers import read_with_format
from vidssl.concepts.rules import CLIP_CONTEXT, check_concepts, clip_num_tokens
from vidssl.concepts.space import Whitening
from vidssl.concepts.space_files import cached_space, save_space
from vidssl.concepts.text_towers import TextTower, load_text_tower
from vidssl.concepts.vocabulary import load_concepts
from vidssl.concepts.words import words
from vidssl.concepts.writers import losses, write_as

Record = dict[str, Any]


def validate(
    given: str | Path,
    *,
    format: str | None = None,
    classes: str | Path | None = None,
    section: str | None = None,
    text_encoder: TextTower | None = None,
) -> Record:
    """Check a concept file against all rules.

    Args:
        given: a file of any format, or the name of a data set or of a shipped file.
        format, classes, section: see `read_concepts`.
        text_encoder: whose tokens to count; CLIP's tokenizer without one.

    Returns:
        `file`, `format`, `concepts` (their number), `errors`, `warnings` (numbers) and `problems`: a list of
        `severity`, `concept`, `rule`, `message`, errors first. Keys that do not belong in a file are among them.

    Raises:
        VidsslError: when the file cannot be read at all.
    """
    broken = _schema(given)
    if broken:
        return _report(str(given), "vidssl", None, broken)
    file, found = _read(given, format, classes, section)
    num_tokens, context = (clip_num_tokens, CLIP_CONTEXT) if text_encoder is None else (
        text_encoder.num_tokens,
        text_encoder.context_length,
    )  # fmt: skip
    return _report(str(given), found, len(file), check_concepts(file, num_tokens, context))


def convert(
    given: str | Path,
    output: str | Path,
    to: str = "vidssl",
    *,
    format: str | None = None,
    classes: str | Path | None = None,
    section: str | None = None,
) -> Record:
    """Write a concept file in another format.

    Args:
        given, format, classes, section: as in `validate`.
        output: where to write.
        to: one of `vidssl.concepts.writers.WRITERS`.

    Returns:
        `file`, `format`, `to`, `concepts`, `written` (paths) and `lost` (parts that the format does not carry).

    Raises:
        VidsslError: when it cannot be read, or not be written in that format.
    """
    file, found = _read(given, format, classes, section)
    written = write_as(file, output, to)
    return {
        "file": str(given),
        "format": found,
        "to": to,
        "concepts": len(file),
        "written": [str(path) for path in written],
        "lost": losses(file, to),
    }


def stats(
    given: str | Path,
    *,
    format: str | None = None,
    classes: str | Path | None = None,
    section: str | None = None,
) -> Record:
    """Numbers about a concept file.

    Args:
        given, format, classes, section: as in `validate`.

    Returns:
        `concepts`, `sources` (concepts of each data set), `aliases`, `descriptions`, `descriptions_per_concept`,
        `words_per_description` and `tokens_per_description` (min, mean, max each), `distinct_words`,
        `attributes` (phrases of each kind), `templates`, `license`, `provenance`, `fingerprint`.
    """
    file, found = _read(given, format, classes, section)
    texts = [text for concept in file.concepts for text in concept.descriptions]
    attributes: Counter[str] = Counter()
    for concept in file.concepts:
        attributes.update({key: len(phrases) for key, phrases in concept.attributes or ()})
    return {
        "file": str(given),
        "format": found,
        "concepts": len(file),
        "sources": dict(Counter(source for concept in file.concepts for source in concept.sources)),
        "aliases": sum(len(concept.aliases) for concept in file.concepts),
        "descriptions": len(texts),
        "descriptions_per_concept": _spread([len(concept.descriptions) for concept in file.concepts]),
        "words_per_description": _spread([len(text.split()) for text in texts]),
        "tokens_per_description": _spread([clip_num_tokens(text) for text in texts]),
        "distinct_words": len({word for text in texts for word in words(text)}),
        "attributes": dict(attributes),
        "templates": file.templates.model_dump(mode="json"),
        "license": file.license,
        "provenance": file.provenance and file.provenance.model_dump(mode="json", exclude_none=True),
        "fingerprint": file.fingerprint,
    }


def build(
    given: str | Path | Sequence[str | Path],
    text_encoder: TextTower | str | Path,
    output: str | Path | None = None,
    *,
    pretrained: str | None = None,
    templates: str | Sequence[str] | None = None,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    device: str | torch.device | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Record:
    """Make the concept space of a vocabulary.

    Args:
        given: see `load_concepts`.
        text_encoder: a tower, or what `load_text_tower` makes one of.
        output: file to write (``….safetensors``); without one the space is kept in the cache.
        pretrained: weights when `text_encoder` is the name of an architecture.
        templates: see `load_concepts`.
        whiten, merge_threshold, batch_size, progress: see `build_space`.
        device: where to encode; where the tower is, by default.

    Returns:
        `concepts`, `dim`, `key`, `sha256`, `encoder` (fingerprint), `merged`, `near_duplicates` (closest pairs),
        `near_duplicate_count`, `problems`, and `output`.

    Raises:
        VidsslError: for unknown names, files that make no space, and towers that cannot be loaded.
    """
    file = load_concepts(given, templates)
    tower: Any = (
        load_text_tower(text_encoder, pretrained) if isinstance(text_encoder, str | Path) else text_encoder
    )
    if device is not None:
        tower.to(device)
    options: Any = {
        "whiten": whiten,
        "merge_threshold": merge_threshold,
        "batch_size": batch_size,
        "progress": progress,
    }
    space = cached_space(file, tower, **options) if output is None else build_space(file, tower, **options)
    if output is not None:
        save_space(space, output)
    info = space.info
    return {
        "file": info.name,
        "concepts": len(space),
        "dim": space.dim,
        "key": info.key,
        "sha256": space.sha256,
        "encoder": info.encoder,
        "merged": dict(info.merged),
        "near_duplicates": [pair.model_dump() for pair in info.near_duplicates],
        "near_duplicate_count": info.near_duplicate_count,
        "problems": [problem._asdict() for problem in info.problems],
        "output": None if output is None else str(output),
    }


def _read(
    given: str | Path, format: str | None, classes: str | Path | None, section: str | None
) -> tuple[ConceptFile, str]:
    if not Path(given).expanduser().exists() and not Path(given).suffix:
        return load_concepts(given), "vidssl"  # names of data sets, or an error that knows them
    return read_with_format(given, format, classes, section)


def _schema(given: str | Path) -> list[Problem]:
    """Keys and types of a file that says it is ours; anything else is for the readers."""
    try:
        data = json.loads(Path(given).expanduser().read_text(encoding="utf-8-sig"))
    except (OSError, ValueError):
        return []
    ours = isinstance(data, dict) and str(data.get("format", "")).startswith("vidssl.concepts/")
    return schema_problems(data) if ours else []


def _report(file: str, format: str, concepts: int | None, problems: Sequence[Problem]) -> Record:
    severities = Counter(problem.severity for problem in problems)
    return {
        "file": file,
        "format": format,
        "concepts": concepts,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "problems": [problem._asdict() for problem in problems],
    }


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "mean": round(sum(values) / len(values), 2), "max": max(values)}
