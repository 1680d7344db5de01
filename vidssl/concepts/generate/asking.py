"""What a language model is asked about a concept and what comes back, the same for every back-end.

The words of a question are those of ``prompts/instructions``: plain text with the parts ``system:``, ``user:`` and
``retry:``, each of which begins where a line begins with its name. ``{name}`` and the like are filled in one pass, so that
braces in names, and those of the JSON that an instruction asks for, are harmless. ``notes.json`` has a note on each data
set and the meant sense of ambiguous labels.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any, Literal, NamedTuple, Protocol

from pydantic.dataclasses import dataclass as checked_dataclass

from vidssl.concepts.names import join_key, label_stems, slug
from vidssl.concepts.prompts import Concept, ConceptFile, Sampling
from vidssl.errors import VidsslError, check_choice
from vidssl.resources import resource_folder

Task = Literal["descriptions", "attributes"]
INSTRUCTIONS: dict[Task, str] = {"descriptions": "describe-v3", "attributes": "attributes-v1"}
SIMILAR = 3  # names of the nearest other concepts that a model is told to keep apart
MAX_FAULTS = 6  # that a model is told of at once
MAX_ANSWER = 32_768  # characters; the longest good answer has about two thousand
# What JSON of another shape than expected ends in.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, RecursionError)
_PART = re.compile(r"^(system|user|retry):(.*?)(?=^(?:system|user|retry):|\Z)", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(r"\{([a-z_]+)\}")


class Message(NamedTuple):
    """A turn of a conversation; `role` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


@checked_dataclass(frozen=True)
class Answer:
    """What a model said; `finish` is ``length`` when it was cut off, None when the back-end does not say."""

    text: str
    finish: str | None = None


class NoAnswer(NamedTuple):
    """Why there is none, in one line."""

    reason: str


@dataclass(frozen=True)
class Request:
    """One question.

    Attributes:
        concept: that it is about; not part of the key.
        task: which kind of answer is wanted.
        retry: what a bad answer is replied with, ``{faults}`` standing for its faults.
        model, revision: who is asked.
        messages: the conversation up to now.
        sampling: how the answer is drawn.
    """

    concept: Concept
    task: Task
    retry: str
    model: str
    revision: str | None
    messages: tuple[Message, ...]
    sampling: Sampling

    @property
    def content(self) -> dict[str, Any]:
        """All that the answer depends on, as JSON."""
        turns = [message._asdict() for message in self.messages]
        parameters = self.sampling.model_dump(exclude_none=True)
        return {"model": self.model, "revision": self.revision, "messages": turns, "parameters": parameters}

    @cached_property
    def key(self) -> str:
        """sha256 (hex) over model, messages and parameters."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def custom_id(self) -> str:
        """A readable name with half of the key; at most 64 of the characters that batch interfaces allow."""
        readable = re.sub(r"[^a-z0-9-]", "", slug(self.concept.name))[:31]
        return f"{readable or 'request'}-{self.key[:32]}"

    def again(self, answer: str, faults: Sequence[str]) -> Request:
        """What is wrong with an answer becomes the next thing to say."""
        # Chat templates want the roles to alternate, and an empty turn would be dropped.
        said = Message("assistant", answer.strip() or "(nothing)")
        reply = Message("user", self.retry.replace("{faults}", "; ".join(faults[:MAX_FAULTS])))
        return replace(self, messages=(*self.messages, said, reply))


class Backend(Protocol):
    """Whoever answers requests.

    Attributes:
        generator: name of the interface, for the provenance.
        model, revision: name of the model, and which state of it, where known.
    """

    generator: str
    model: str
    revision: str | None

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """Each request with what became of it, in any order, as soon as it is known.

        Raises:
            VidsslError: for a mistake that no other request would survive either, such as an unknown model.
        """


def clean_text(text: str) -> str:
    """At most `MAX_ANSWER` characters that can be written as UTF-8, control characters gone."""
    whole = text[:MAX_ANSWER].encode("utf-8", "replace").decode()
    return "".join(
        character if character.isprintable() or character == "\n" else " " if character.isspace() else ""
        for character in whole.replace("\r\n", "\n")
    )


class Instruction(NamedTuple):
    """The name of the file that says what is wanted, the sha256 of its text (hex), and the text of its parts."""

    id: str
    sha256: str
    parts: dict[str, str]

    def fill(self, part: str, fields: Mapping[str, str]) -> str:
        """The text of a part with what stands for its placeholders."""
        return _FIELD.sub(lambda match: fields[match[1]], self.parts[part])


@cache
def read_instruction(task: Task) -> Instruction:
    """The instruction for a task.

    Raises:
        VidsslError: for an unknown one.
    """
    check_choice("what", task, INSTRUCTIONS, "{name}={value!r}: unknown{guess} ({allowed})")
    text = _read(f"{INSTRUCTIONS[task]}.txt")
    parts = {part: body.strip() for part, body in _PART.findall(text)}
    return Instruction(INSTRUCTIONS[task], hashlib.sha256(text.encode()).hexdigest(), parts)


def first_requests(
    concepts: ConceptFile, backend: Backend, what: Sequence[Task], count: int, sampling: Sampling
) -> list[Request]:
    """What is to be asked about each concept; the arguments are those of `generate`.

    Raises:
        VidsslError: for an unknown task, and where there is nothing to ask.
    """
    if not (concepts.concepts and what):
        raise VidsslError(f"{concepts.name}: no concepts, or nothing to ask for")
    found = []
    for concept, nearest in zip(concepts.concepts, similar_names(concepts.names), strict=True):
        fields = {
            "name": concept.name,
            "context": context_of(concept),
            "n": str(count),
            "confusions": f" ({', '.join(nearest)})" if nearest else "",
            "faults": "{faults}",  # filled in when there are any
        }
        for task in dict.fromkeys(what):
            fill = read_instruction(task).fill
            messages = tuple(Message(role, fill(role, fields)) for role in ("system", "user"))
            by = (backend.model, backend.revision)
            found.append(Request(concept, task, fill("retry", fields), *by, messages, sampling))
    return found


def context_of(concept: Concept) -> str:
    """The note on a concept, ``none`` when nothing is known of its data sets."""
    known, key = notes(), join_key(concept.name)
    senses = [known["senses"].get(source, {}).get(key) for source in concept.sources]
    sources = [known["sources"][source] for source in concept.sources if source in known["sources"]]
    return "; ".join(dict.fromkeys([*filter(None, senses), *sources[:1]])) or "none"


def similar_names(names: Sequence[str], limit: int = SIMILAR) -> list[tuple[str, ...]]:
    """For each name up to `limit` others that share words with it, those with the rarest common words first."""
    by_name = [label_stems(name) for name in names]
    counts = Counter(stem for found in by_name for stem in found)
    similar = []
    for index, own in enumerate(by_name):
        scores = {
            other: sum(math.log(len(names) / counts[stem]) + 0.01 for stem in own & found)
            for other, found in enumerate(by_name)
            if other != index and not own.isdisjoint(found)
        }
        best = sorted(scores, key=lambda other: (-round(scores[other], 9), other))[:limit]
        similar.append(tuple(names[other] for other in best))
    return similar


@cache
def notes() -> dict[str, Any]:
    """Notes on data sets under ``sources``; under ``senses``, by data set, labels with a second meaning and the meant one."""
    return dict(json.loads(_read("notes.json")))


def _read(name: str) -> str:
    return (resource_folder("prompts") / "instructions" / name).read_text(encoding="utf-8")
