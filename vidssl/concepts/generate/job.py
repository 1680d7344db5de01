"""Have a language model write descriptions and attributes of actions, and keep only what passes the rules.

    >>> backend = OpenAIBackend("http://127.0.0.1:8000/v1", "my-model")
    >>> result = generate(load_concepts("ucf101"), backend, store="ucf101.answers.jsonl")
    >>> write_concepts(result.concepts, "ucf101.json")
    >>> result.failures                                  # asked again when this is run again

The store keeps every answer; the same call goes on where the last one stopped. In every round all open questions are
asked, and only then are the answers judged, in the order of the questions: what is accepted depends on the answers
alone, not on who was quicker, so that a run that was stopped and goes on from its store ends as one that never was.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from vidssl.concepts.generate.asking import (
    SAMPLING,
    Answer,
    Backend,
    EchoBackend,
    Message,
    NoAnswer,
    Request,
    Task,
    check_sampling,
)
from vidssl.concepts.generate.judging import Judge, clean_text
from vidssl.concepts.generate.local import TransformersBackend
from vidssl.concepts.generate.questions import fields_of, read_instruction
from vidssl.concepts.generate.server import OpenAIBackend
from vidssl.concepts.generate.storing import AnswerStore, FileBackend
from vidssl.concepts.prompts import Concept, ConceptFile, Provenance, Sampling, concepts_from_names
from vidssl.concepts.readers import read_concepts
from vidssl.concepts.rules import MIN_DESCRIPTIONS
from vidssl.errors import NAMED, VidsslError, check_choice

Progress = Callable[[int, int], None]
MAX_FAULTS = 6  # that a model is told of at once
BACKENDS: dict[str, Any] = {
    "transformers": TransformersBackend,
    "openai": OpenAIBackend,
    "file": FileBackend,
    "echo": EchoBackend,
}


class Failure(NamedTuple):
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


@dataclass(frozen=True)
class Generation:
    """What became of a run.

    Attributes:
        concepts: those with good answers, with the provenance of their words. A concept whose descriptions failed is
            left out; one whose attributes failed has none.
        failures: one for each concept and task.
        counts: requests ``asked`` and ``answered``, answers that were ``stored`` already, and ``damaged_lines`` of the
            store, which count as unanswered.
    """

    concepts: ConceptFile
    failures: tuple[Failure, ...]
    counts: Counter[str]

    def record(self) -> dict[str, Any]:
        """JSON-able report."""
        failures = [failure._asdict() for failure in self.failures]
        return {"concepts": len(self.concepts), **self.counts, "failures": failures}

    def losses(self, existing: Path) -> list[str]:
        """Ids of concepts that have words in a file and got none now: to write over it would lose them."""
        if not (self.failures and existing.is_file()):
            return []
        failed = {failure.concept for failure in self.failures}
        worded = [c.id for c in read_concepts(existing).concepts if c.descriptions or c.attributes]
        return [concept for concept in worded if concept in failed]


@dataclass
class Conversation:
    """What is said about one concept until an answer is good.

    Attributes:
        concept, task, count: what it is about, what is wanted, and how many sentences.
        messages: up to now.
        retry: what a bad answer is replied with, ``{faults}`` standing for them.
        attempts: answers judged so far.
        faults: of the last answer, or why there was none; empty once one is accepted.
        answer: the last one.
    """

    concept: Concept
    task: Task
    count: int
    messages: tuple[Message, ...]
    retry: str
    attempts: int = 0
    faults: list[str] = field(default_factory=list)
    answer: str = ""

    def request(self, backend: Backend, sampling: Sampling) -> Request:
        """The question as it stands."""
        asked = (backend.model, backend.revision, self.messages, sampling)
        return Request(self.concept.name, self.task, self.count, *asked)

    def go_on(self, answer: Answer, faults: list[str]) -> None:
        """What is wrong with an answer becomes the next thing to say."""
        self.attempts, self.answer, self.faults = self.attempts + 1, answer.text, faults
        # Chat templates want the roles to alternate, and an empty turn would be dropped.
        said = Message("assistant", answer.text.strip() or "(nothing)")
        reply = Message("user", self.retry.replace("{faults}", "; ".join(faults[:MAX_FAULTS])))
        self.messages = (*self.messages, said, reply)


def generate(
    concepts: ConceptFile | Sequence[str],
    backend: Backend,
    *,
    name: str = "generated",
    what: Sequence[Task] = ("descriptions",),
    count: int = MIN_DESCRIPTIONS,
    sampling: Sampling = SAMPLING,
    attempts: int = 3,
    store: str | Path | None = None,
    license: str | None = None,
    created: str | None = None,
    progress: Progress | None = None,
) -> Generation:
    """Ask for words about every concept until they pass the rules of the concept file, or `attempts` is used up.

    Args:
        concepts: in the order of the rows; a file keeps its aliases, sources, templates, and what is not asked for.
        backend: whom to ask: `EchoBackend`, `FileBackend`, `OpenAIBackend`, `TransformersBackend`.
        name: of the space, where `concepts` is a list of names.
        what: ``descriptions``, ``attributes`` (with synonyms, which become aliases) or both; one request each.
        count: sentences of a concept, at least 4.
        sampling: how answers are drawn.
        attempts: answers judged for one concept; the model is told what was wrong with the one before.
        store: JSONL file of all answers, made when it is not there; what it holds is not asked again.
        license: of the new sentences.
        created: YYYY-MM-DD for the provenance; today if None.
        progress: called with the requests dealt with and those known so far, which grow with further attempts.

    Raises:
        VidsslError: for bad arguments, a store in use, and what no concept would survive, such as a wrong key or model.
    """
    if attempts < 1:
        raise VidsslError(f"attempts={attempts}: must be 1 or more")
    if not isinstance(concepts, ConceptFile):
        concepts = concepts_from_names(concepts, name)
    conversations = begin(concepts, what, count, sampling)
    words: dict[str, dict[str, Any]] = {concept.id: {} for concept in concepts.concepts}  # of good answers
    judge = Judge(concepts.names)
    counts = Counter(asked=0, answered=0, stored=0)
    report = progress or (lambda done, total: None)
    done, total, open_ = 0, len(conversations), conversations
    with AnswerStore(store) as answers:
        for _ in range(attempts):
            requests = [conversation.request(backend, sampling) for conversation in open_]
            missing = {request.key: request for request in requests if request.key not in answers.found}
            reasons: dict[str, str] = {}
            counts.update(asked=len(missing), stored=len(requests) - len(missing))
            done += len(requests) - len(missing)
            report(done, total)
            # Asked even when nothing is missing: a back-end that writes the open requests to a file has to know.
            for request, outcome in backend.answer(list(missing.values())):
                if isinstance(outcome, NoAnswer):
                    reasons[request.key] = outcome.reason
                else:
                    answers.add(request, Answer(clean_text(outcome.text), outcome.finish))
                    counts["answered"] += 1
                done += 1
                report(done, total)
            bad = []
            for conversation, request in zip(open_, requests, strict=True):
                answer = answers.found.get(request.key)
                if answer is None:
                    conversation.faults = [reasons.get(request.key, "the back-end did not come back to it")]
                    continue
                found, faults = judge.judge(conversation.concept, conversation.task, count, answer)
                conversation.go_on(answer, faults)
                if faults:
                    bad.append(conversation)
                else:
                    words[conversation.concept.id] |= found
            open_ = bad
            total += len(open_)
    new = []
    for concept in concepts.concepts:
        found = words[concept.id]
        if "descriptions" in found or "descriptions" not in what:
            empty = {"attributes": None} if "attributes" in what else {}
            new.append(concept.model_copy(update=empty | found))
    changes = {
        "concepts": tuple(new),
        "license": license if "descriptions" in what else concepts.license,
        "provenance": provenance(
            concepts, backend, what, sampling, created or datetime.now(UTC).date().isoformat()
        ),
    }
    failures = [
        Failure(c.concept.id, c.task, c.attempts, tuple(c.faults), c.answer[:300] if c.attempts else None)
        for c in conversations
        if c.faults
    ]
    counts["damaged_lines"] = answers.damaged
    return Generation(concepts.model_copy(update=changes), tuple(failures), counts)


def begin(concepts: ConceptFile, what: Sequence[Task], count: int, sampling: Sampling) -> list[Conversation]:
    """What is to be asked about each concept.

    Raises:
        VidsslError: for bad arguments.
    """
    for task in what:
        check_choice("what", task, get_args(Task), "{name}={value!r}: unknown{guess} ({allowed})")
    repeated = [key for key, times in Counter(concepts.ids).items() if times > 1]
    if repeated or not concepts.concepts or not what:
        fault = (
            f"two concepts are {repeated[0]!r}"
            if repeated
            else "no concepts"
            if what
            else "nothing to ask for"
        )
        raise VidsslError(f"{concepts.name}: {fault}")
    if not MIN_DESCRIPTIONS <= count <= 20:
        raise VidsslError(f"count={count}: must be {MIN_DESCRIPTIONS} to 20 sentences")
    check_sampling(sampling)
    conversations = []
    for concept, fields in zip(concepts.concepts, fields_of(concepts.concepts, count), strict=True):
        for instruction in map(read_instruction, dict.fromkeys(what)):
            messages = tuple(Message(role, instruction.fill(role, fields)) for role in ("system", "user"))
            retry = instruction.fill("retry", fields)
            conversations.append(Conversation(concept, instruction.task, count, messages, retry))
    return conversations


def plan(
    concepts: ConceptFile,
    backend: Backend,
    *,
    what: Sequence[Task] = ("descriptions",),
    count: int = MIN_DESCRIPTIONS,
    sampling: Sampling = SAMPLING,
    store: str | Path | None = None,
) -> tuple[list[Request], list[Request]]:
    """What `generate` with these arguments would ask first, and what of it is not in the store yet; asks nothing."""
    requests = [
        conversation.request(backend, sampling) for conversation in begin(concepts, what, count, sampling)
    ]
    stored = AnswerStore(store).peek().found
    return requests, [request for request in requests if request.key not in stored]


def make_backend(kind: str, **options: Any) -> Backend:
    """A back-end from its name and its arguments; arguments that are None count as not given.

    Raises:
        VidsslError: for an unknown name, or an argument that this back-end lacks or does not have.
    """
    check_choice("backend", kind, BACKENDS, NAMED)
    given = {key: value for key, value in options.items() if value is not None}
    try:
        inspect.signature(BACKENDS[kind]).bind(**given)
    except TypeError as error:
        raise VidsslError(f"backend {kind}: {error}") from None
    backend: Backend = BACKENDS[kind](**given)
    return backend


def provenance(
    concepts: ConceptFile, backend: Backend, what: Sequence[Task], sampling: Sampling, created: str
) -> Provenance:
    """Of the descriptions; where only attributes are new, that of the old descriptions with a note."""
    before, note = concepts.provenance, None
    if "attributes" in what:
        note = f"attributes: {backend.generator}, {backend.model}, {read_instruction('attributes').id}, {created}"
    if "descriptions" not in what and before is not None:
        notes = "; ".join(text for text in (before.note, note) if text)
        return before.model_copy(update={"note": notes, "reviewed_by_hand": False})
    instruction = read_instruction("descriptions" if "descriptions" in what else "attributes")
    return Provenance(
        generator=backend.generator,
        model=backend.model,
        revision=backend.revision,
        prompt_id=instruction.id,
        prompt_sha256=instruction.sha256,
        sampling=sampling,
        created=created,
        note=note if "descriptions" in what else None,
    )
