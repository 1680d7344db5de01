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
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

from vidssl.concepts.formats.read import read_concepts
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
from vidssl.concepts.rules import MIN_DESCRIPTIONS
from vidssl.errors import NAMED, VidsslError, check_choice

Progress = Callable[[int, int], None]
MAX_FAULTS = 6  # that a model is told of at once
_CLASSES = (TransformersBackend, OpenAIBackend, FileBackend, EchoBackend)
BACKENDS: dict[str, Any] = {backend.generator: backend for backend in _CLASSES}


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


class Question(NamedTuple):
    """A request about a concept, and what a bad answer is replied with, ``{faults}`` standing for its faults."""

    concept: Concept
    request: Request
    retry: str

    def again(self, answer: Answer, faults: list[str]) -> Question:
        """What is wrong with an answer becomes the next thing to say."""
        # Chat templates want the roles to alternate, and an empty turn would be dropped.
        said = Message("assistant", answer.text.strip() or "(nothing)")
        reply = Message("user", self.retry.replace("{faults}", "; ".join(faults[:MAX_FAULTS])))
        messages = (*self.request.messages, said, reply)
        return self._replace(request=replace(self.request, messages=messages))


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
    open_ = questions(concepts, backend, what, count, sampling)
    failures = dict.fromkeys((question.concept.id, question.request.task) for question in open_)
    words: dict[str, dict[str, Any]] = {concept.id: {} for concept in concepts.concepts}  # of good answers
    judge = Judge(concepts.names)
    counts = Counter(asked=0, answered=0, stored=0)
    report = progress or (lambda done, total: None)
    done, total = 0, len(open_)
    with AnswerStore(store) as answers:
        for attempt in range(attempts):
            missing = {request.key: request for _, request, _ in open_ if request.key not in answers.found}
            counts.update(asked=len(missing), stored=len(open_) - len(missing))
            done += len(open_) - len(missing)
            report(done, total)
            reasons: dict[str, str] = {}
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
            for question in open_:
                request = question.request
                place = question.concept.id, request.task
                answer = answers.found.get(request.key)
                if answer is None:
                    reason = reasons.get(request.key, "the back-end did not come back to it")
                    last = failures[place]
                    failures[place] = Failure(*place, attempt, (reason,), last and last.answer)
                    continue
                found, faults = judge.judge(question.concept, request.task, count, answer)
                if faults:
                    failures[place] = Failure(*place, attempt + 1, tuple(faults), answer.text[:300])
                    bad.append(question.again(answer, faults))
                else:
                    del failures[place]
                    words[question.concept.id] |= found
            open_ = bad
            total += len(open_)
    empty = {"attributes": None} if "attributes" in what else {}
    new = [
        concept.model_copy(update=empty | words[concept.id])
        for concept in concepts.concepts
        if "descriptions" in words[concept.id] or "descriptions" not in what
    ]
    created = created or datetime.now(UTC).date().isoformat()
    changes = {"concepts": tuple(new), "provenance": provenance(concepts, backend, what, sampling, created)}
    if "descriptions" in what:
        changes["license"] = license
    counts["damaged_lines"] = answers.damaged
    failed = tuple(failure for failure in failures.values() if failure is not None)
    return Generation(concepts.model_copy(update=changes), failed, counts)


def plan(
    concepts: ConceptFile, backend: Backend, what: Sequence[Task], count: int, sampling: Sampling, store: Path
) -> tuple[list[Request], list[Request]]:
    """What `generate` with these arguments would ask first, and what of it is not in the store yet; asks nothing."""
    requests = [question.request for question in questions(concepts, backend, what, count, sampling)]
    stored = AnswerStore(store).peek().found
    return requests, [request for request in requests if request.key not in stored]


def questions(
    concepts: ConceptFile, backend: Backend, what: Sequence[Task], count: int, sampling: Sampling
) -> list[Question]:
    """What is to be asked about each concept.

    Raises:
        VidsslError: for bad arguments.
    """
    for task in what:
        check_choice("what", task, get_args(Task), "{name}={value!r}: unknown{guess} ({allowed})")
    repeated = [key for key, times in Counter(concepts.ids).items() if times > 1]
    if repeated:
        raise VidsslError(f"{concepts.name}: two concepts are {repeated[0]!r}")
    if not concepts.concepts or not what:
        raise VidsslError(f"{concepts.name}: no concepts, or nothing to ask for")
    if not MIN_DESCRIPTIONS <= count <= 20:
        raise VidsslError(f"count={count}: must be {MIN_DESCRIPTIONS} to 20 sentences")
    check_sampling(sampling)
    found = []
    for concept, fields in zip(concepts.concepts, fields_of(concepts.concepts, count), strict=True):
        for task in dict.fromkeys(what):
            instruction = read_instruction(task)
            messages = tuple(Message(role, instruction.fill(role, fields)) for role in ("system", "user"))
            by = (backend.model, backend.revision)
            request = Request(concept.name, task, count, *by, messages, sampling)
            found.append(Question(concept, request, instruction.fill("retry", fields)))
    return found


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
    if "descriptions" in what or before is None:
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
    notes = "; ".join(text for text in (before.note, note) if text)
    return before.model_copy(update={"note": notes, "reviewed_by_hand": False})
