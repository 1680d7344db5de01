"""The conversations of one run about the concepts of a file, and the file that their good answers make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vidssl.concepts.llm_instructions import ATTRIBUTES, DESCRIBE, Instruction, read_instruction
from vidssl.concepts.llm_notes import context_of, similar_names
from vidssl.concepts.llm_request import Answer, Backend, Task, check_sampling
from vidssl.concepts.llm_review import (
    attribute_faults,
    description_faults,
    new_aliases,
    read_attributes,
    read_descriptions,
    sentence_key,
)
from vidssl.concepts.llm_rounds import Conversation
from vidssl.concepts.names import display_name, join_key
from vidssl.concepts.prompts import (
    Attributes,
    Concept,
    ConceptFile,
    Provenance,
    Sampling,
    concepts_from_names,
)
from vidssl.concepts.rules import MIN_DESCRIPTIONS
from vidssl.errors import VidsslError, check_choice, did_you_mean

WHAT: tuple[Task, ...] = ("descriptions", "attributes")
DEFAULT_INSTRUCTIONS: dict[Task, str] = {"descriptions": DESCRIBE, "attributes": ATTRIBUTES}


@dataclass(frozen=True)
class Failure:
    """A concept for which no good answer was had.

    Attributes:
        concept: its id.
        task: what was asked for.
        attempts: answers judged; 0 when none came.
        reasons: what was wrong with the last one, or why none came.
        answer: the last one, shortened.
    """

    concept: str
    task: Task
    attempts: int
    reasons: tuple[str, ...]
    answer: str | None


class Job:
    """The conversations of a run, and what their reviews let through."""

    def __init__(
        self,
        names: ConceptFile | Sequence[str],
        name: str,
        what: Sequence[Task],
        count: int,
        instructions: Mapping[Task, str | Path] | None,
        contexts: Mapping[str, str] | None,
        similar: int,
        sampling: Sampling,
    ) -> None:
        _check(what, count, sampling)
        self.source = names if isinstance(names, ConceptFile) else concepts_from_names(names, name)
        repeated = [key for key, times in Counter(self.source.ids).items() if times > 1]
        if repeated or not self.source.concepts:
            raise VidsslError(
                f"{self.source.name}: {f'two concepts are {repeated[0]!r}' if repeated else 'no concepts'}"
            )
        self.what, self.count, self.sampling = tuple(dict.fromkeys(what)), count, sampling
        chosen = {**DEFAULT_INSTRUCTIONS, **(instructions or {})}
        self.instructions = {task: read_instruction(chosen[task]) for task in self.what}
        self.keys = {join_key(concept.name) for concept in self.source.concepts}
        self.descriptions: dict[str, tuple[str, ...]] = {}
        self.attributes: dict[str, Attributes] = {}
        self.aliases: dict[str, tuple[str, ...]] = {}
        self.taken: dict[str, str] = {}
        notes = {join_key(key): " ".join(text.split()) for key, text in (contexts or {}).items()}
        unknown = [key for key in contexts or {} if join_key(key) not in self.keys]
        if unknown:
            raise VidsslError(
                f"contexts: {unknown[0]!r} is no concept{did_you_mean(display_name(unknown[0]), self.source.names)}"
            )
        self.conversations: list[Conversation] = []
        self._concepts: list[Concept] = []
        neighbours = similar_names(self.source.names, similar)
        for concept, nearest in zip(self.source.concepts, neighbours, strict=True):
            context = notes.get(join_key(concept.name)) or context_of(concept)
            for task in self.what:
                self._open(concept, task, context, nearest)

    def file(self, backend: Backend, license: str | None, created: str) -> ConceptFile:
        """The concepts with their new words, and where these are from."""
        concepts = []
        for concept in self.source.concepts:
            if "descriptions" in self.what and concept.id not in self.descriptions:
                continue
            changes: dict[str, Any] = {}
            if "descriptions" in self.what:
                changes["descriptions"] = self.descriptions[concept.id]
            if "attributes" in self.what:
                changes["attributes"] = self.attributes.get(concept.id)
                changes["aliases"] = self.aliases.get(concept.id, concept.aliases)
            concepts.append(concept.model_copy(update=changes))
        return self.source.model_copy(
            update={
                "concepts": tuple(concepts),
                "license": license if "descriptions" in self.what else self.source.license,
                "provenance": self._provenance(backend, created),
            }
        )

    def failures(self) -> tuple[Failure, ...]:
        """Every conversation that ended without a good answer."""
        return tuple(
            Failure(
                concept.id,
                conversation.task,
                conversation.attempts,
                tuple(conversation.faults),
                None if conversation.answer is None else conversation.answer.text[:300],
            )
            for concept, conversation in zip(self._concepts, self.conversations, strict=True)
            if conversation.faults
        )

    def _open(self, concept: Concept, task: Task, context: str, nearest: Sequence[str]) -> None:
        fields = {
            "name": concept.name,
            "context": context,
            "sources": ", ".join(concept.sources) or "no data set",
            "n": str(self.count),
            "confusions": f" ({', '.join(nearest)})" if nearest else "",
        }
        reviews: dict[Task, Callable[[Answer], list[str]]] = {
            "descriptions": lambda answer: self._review_descriptions(concept, answer),
            "attributes": lambda answer: self._review_attributes(concept, answer),
        }
        self._concepts.append(concept)
        self.conversations.append(
            Conversation(concept.name, task, self.count, self.instructions[task], fields, reviews[task])
        )

    def _review_descriptions(self, concept: Concept, answer: Answer) -> list[str]:
        sentences = read_descriptions(answer, self.count)
        faults = description_faults(sentences, concept, self.count, self.taken)
        if not faults:
            self.descriptions[concept.id] = sentences
            self.taken.update({sentence_key(sentence): concept.name for sentence in sentences})
        return faults

    def _review_attributes(self, concept: Concept, answer: Answer) -> list[str]:
        attributes, synonyms, missing = read_attributes(answer)
        faults = attribute_faults(attributes, missing, concept)
        if not faults:
            self.attributes[concept.id] = attributes
            self.aliases[concept.id] = new_aliases(synonyms, concept, self.keys)
        return faults

    def _provenance(self, backend: Backend, created: str) -> Provenance:
        """Of the descriptions; where only attributes are new, that of the old descriptions with a note."""
        note = None
        if "attributes" in self.what:
            instruction = self.instructions["attributes"]
            note = f"attributes: {backend.generator}, {backend.model}, {instruction.id}, {created}"
        if "descriptions" in self.what:
            return provenance(backend, self.instructions["descriptions"], self.sampling, created, note)
        before = self.source.provenance
        if before is None:
            return provenance(backend, self.instructions["attributes"], self.sampling, created)
        notes = "; ".join(text for text in (before.note, note) if text)
        return before.model_copy(update={"note": notes, "reviewed_by_hand": False})


def provenance(
    backend: Backend, instruction: Instruction, sampling: Sampling, created: str, note: str | None = None
) -> Provenance:
    """Who wrote something, from which instruction."""
    return Provenance(
        generator=backend.generator,
        model=backend.model,
        revision=backend.revision,
        prompt_id=instruction.id,
        prompt_sha256=instruction.sha256,
        sampling=sampling,
        created=created,
        note=note,
    )


def _check(what: Sequence[Task], count: int, sampling: Sampling) -> None:
    for task in what:
        check_choice("what", task, WHAT, "{name}={value!r}: unknown{guess} ({allowed})")
    if not what:
        raise VidsslError(f"what: nothing to ask for ({', '.join(WHAT)})")
    if not MIN_DESCRIPTIONS <= count <= 20:
        raise VidsslError(f"count={count}: must be {MIN_DESCRIPTIONS} to 20 sentences")
    check_sampling(sampling)
