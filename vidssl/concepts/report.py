"""What ``vidssl concepts validate`` and ``stats`` say of a concept file: JSON-able records, nothing printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vidssl.concepts.attributes import KINDS, shared_words
from vidssl.concepts.names import words
from vidssl.concepts.prompts import ConceptFile, ProblemsError
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.vocabulary import read_given
from vidssl.models.towers.text import clip_num_tokens

Record = dict[str, Any]
MOST_COMMON = 5


def validate(given: str | Path, **reading: Any) -> Record:
    """Check a concept file against all rules.

    Args:
        given: a file of any format, or the name of a data set or of a shipped file.
        reading: `format`, `classes`, `section`, see `read_concepts`.

    Returns:
        `file`, `format`, `concepts` (their number), `errors`, `warnings` (numbers) and `problems`: a list of
        `severity`, `concept`, `rule`, `message`, errors first. Keys that do not belong in a file are among them.

    Raises:
        VidsslError: when the file cannot be read at all.
    """
    try:
        file, format = read_given(given, **reading)
        concepts, problems = len(file), check_concepts(file, clip_num_tokens)
    except ProblemsError as error:
        concepts, format, problems = None, "vidssl", error.problems
    severities = Counter(problem.severity for problem in problems)
    return {
        "file": str(given),
        "format": format,
        "concepts": concepts,
        "errors": severities["error"],
        "warnings": severities["warning"],
        "problems": [problem._asdict() for problem in problems],
    }


def stats(given: str | Path, **reading: Any) -> Record:
    """Numbers about a concept file.

    Args:
        given, reading: as in `validate`.

    Returns:
        `concepts`, `sources` (concepts of each data set), `aliases`, `descriptions`, `descriptions_per_concept`,
        `words_per_description` and `tokens_per_description` (min, mean, max each), `distinct_words`,
        `attributes` (phrases of each kind), of those that two or more concepts share `shared_attributes` (number of each
        kind), `rare_attributes` (number left out), `concepts_without` (any) and `common_attributes` (the first few), `templates`, `license`, `provenance`, `fingerprint`.
    """
    file, format = read_given(given, **reading)
    texts = [text for concept in file.concepts for text in concept.descriptions]
    attributes: Counter[str] = Counter()
    for concept in file.concepts:
        attributes.update({key: len(phrases) for key, phrases in concept.attributes or ()})
    return {
        "file": str(given),
        "format": format,
        "concepts": len(file),
        "sources": dict(Counter(source for concept in file.concepts for source in concept.sources)),
        "aliases": sum(len(concept.aliases) for concept in file.concepts),
        "descriptions": len(texts),
        "descriptions_per_concept": _spread([len(concept.descriptions) for concept in file.concepts]),
        "words_per_description": _spread([len(text.split()) for text in texts]),
        "tokens_per_description": _spread([clip_num_tokens(text) for text in texts]),
        "distinct_words": len({word for text in texts for word in words(text)}),
        "attributes": dict(attributes),
        **_shared(file),
        "templates": file.templates.model_dump(mode="json", exclude_none=True),
        "license": file.license,
        "provenance": file.provenance and file.provenance.model_dump(mode="json", exclude_none=True),
        "fingerprint": file.fingerprint,
    }


def _shared(file: ConceptFile) -> Record:
    found = [shared_words(file.concepts, kind) for kind in KINDS]
    held = [one for one in found if one.words or one.dropped]
    return {
        "shared_attributes": {one.kind: len(one.words) for one in held},
        "rare_attributes": {one.kind: one.dropped for one in held},
        "concepts_without": {one.kind: one.columns.count(()) for one in held},
        "common_attributes": {one.kind: "/".join(one.words[:MOST_COMMON]) for one in held},
    }


def _spread(values: Sequence[int]) -> dict[str, float] | None:
    if not values:
        return None
    return {"min": min(values), "mean": round(sum(values) / len(values), 2), "max": max(values)}
