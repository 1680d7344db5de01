"""What a concept is asked about with: the instructions of ``prompts/instructions``, and what a class name does not say.

An instruction is plain text with the parts ``system:``, ``user:`` and ``retry:``, each of which begins where a line begins
with its name. ``{name}`` and the like are filled in one pass, so that braces in names, and those of the JSON that an
instruction asks for, are harmless. ``notes.json`` has a note on each data set and the meant sense of ambiguous labels.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from vidssl.concepts.generate.asking import Task
from vidssl.concepts.names import join_key, label_stems
from vidssl.concepts.prompts import Concept
from vidssl.resources import resource_folder

INSTRUCTIONS: dict[Task, str] = {"descriptions": "describe-v2", "attributes": "attributes-v1"}
SIMILAR = 3  # names of the nearest other concepts that a model is told to keep apart
_PART = re.compile(r"^(system|user|retry):[ \t]*", re.MULTILINE)
_FIELD = re.compile(r"\{([a-z_]+)\}")


class Instruction(NamedTuple):
    """What is asked for, the name of the file that asks it, the sha256 of its text (hex), and the text of its parts."""

    task: Task
    id: str
    sha256: str
    parts: dict[str, str]

    def fill(self, part: str, fields: Mapping[str, str]) -> str:
        """The text of a part with what stands for its placeholders."""
        return _FIELD.sub(lambda match: fields[match[1]], self.parts[part])


@cache
def read_instruction(task: Task) -> Instruction:
    """The instruction for a task."""
    text = _read(f"{INSTRUCTIONS[task]}.txt")
    pieces = _PART.split(text)
    parts = {part: body.strip() for part, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    return Instruction(task, INSTRUCTIONS[task], hashlib.sha256(text.encode()).hexdigest(), parts)


def fields_of(concepts: Sequence[Concept], count: int) -> Iterator[dict[str, str]]:
    """What fills an instruction, for each concept: its name, what is known of it, and the names nearest to it."""
    for concept, nearest in zip(concepts, similar_names([c.name for c in concepts]), strict=True):
        yield {
            "name": concept.name,
            "context": context_of(concept),
            "n": str(count),
            "confusions": f" ({', '.join(nearest)})" if nearest else "",
            "faults": "{faults}",  # filled in when there are any
        }


def context_of(concept: Concept) -> str:
    """The note on a concept, ``none`` when nothing is known of its data sets."""
    known, key = notes(), join_key(concept.name)
    senses = [known["senses"].get(source, {}).get(key) for source in concept.sources]
    sources = [known["sources"][source] for source in concept.sources if source in known["sources"]]
    return "; ".join(dict.fromkeys([*filter(None, senses), *sources[:1]])) or "none"


def similar_names(names: Sequence[str], limit: int = SIMILAR) -> list[tuple[str, ...]]:
    """For each name up to `limit` others that share words with it, those with the rarest common words first."""
    by_name = [label_stems(name) for name in names]
    holders: dict[str, list[int]] = defaultdict(list)
    for index, found in enumerate(by_name):
        for stem in found:
            holders[stem].append(index)
    similar = []
    for index, found in enumerate(by_name):
        scores: dict[int, float] = defaultdict(float)
        for stem in sorted(found):
            for other in holders[stem]:
                scores[other] += math.log(len(names) / len(holders[stem])) + 0.01
        del scores[index]
        best = sorted(scores, key=lambda other: (-round(scores[other], 9), other))[:limit]
        similar.append(tuple(names[other] for other in best))
    return similar


@cache
def notes() -> dict[str, Any]:
    """Notes on data sets under ``sources``; under ``senses``, by data set, labels with a second meaning and the meant one."""
    return dict(json.loads(_read("notes.json")))


def _read(name: str) -> str:
    return (resource_folder("prompts") / "instructions" / name).read_text(encoding="utf-8")
