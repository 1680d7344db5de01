"""Have a language model write descriptions and attributes of actions, and keep only what passes the rules.

    >>> backend = OpenAIBackend("http://127.0.0.1:8000/v1", "my-model")
    >>> result = generate(load_concepts("ucf101"), backend, "ucf101.answers.jsonl")
    >>> write_concepts(result.concepts, "ucf101.json")
    >>> result.failures                                  # asked again when this is run again

The store keeps every answer; the same call goes on where the last one stopped. In every round all open questions are
asked, and only then are the answers judged, in the order of the questions: what is accepted depends on the answers
alone, not on who was quicker, so that a run that was stopped and goes on from its store ends as one that never was.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from vidssl.concepts.formats.read import read_concepts
from vidssl.concepts.generate.asking import Backend, NoAnswer, Task, first_requests, read_instruction
from vidssl.concepts.generate.judging import Judge
from vidssl.concepts.generate.local import TransformersBackend
from vidssl.concepts.generate.server import OpenAIBackend
from vidssl.concepts.generate.storing import AnswerStore, FileBackend
from vidssl.concepts.prompts import ConceptFile, Provenance, Sampling
from vidssl.concepts.rules import MIN_DESCRIPTIONS
from vidssl.errors import VidsslError

SAMPLING = Sampling(temperature=0.7, top_p=0.95, max_new_tokens=400, seed=0)
BACKENDS: dict[str, Any] = {"transformers": TransformersBackend, "openai": OpenAIBackend, "file": FileBackend}


class Failure(NamedTuple):
    """A concept, by its id, for which no good answer was had; what was wrong with the last, or why none came."""

    concept: str
    task: Task
    reasons: tuple[str, ...]


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
        failed = {failure.concept for failure in self.failures}
        rows = read_concepts(existing).concepts if failed and existing.is_file() else ()
        return [row.id for row in rows if row.id in failed and (row.descriptions or row.attributes)]


def generate(
    concepts: ConceptFile,
    backend: Backend,
    store: str | Path,
    *,
    what: Sequence[Task] = ("descriptions",),
    count: int = MIN_DESCRIPTIONS,
    sampling: Sampling = SAMPLING,
    attempts: int = 3,
    license: str | None = None,
    created: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Generation:
    """Ask for words about every concept until they pass the rules of the concept file, or `attempts` is used up.

    Args:
        concepts: whose rows keep their order, aliases, sources, templates and what is not asked for.
        backend: whom to ask: `FileBackend`, `OpenAIBackend`, `TransformersBackend`.
        store: JSONL file of all answers, made when it is not there; what it holds is not asked again.
        what: ``descriptions``, ``attributes`` (with synonyms, which become aliases) or both; one request each.
        count: sentences of a concept; the rules want at least 4.
        sampling: how answers are drawn.
        attempts: answers judged for one concept; the model is told what was wrong with the one before.
        license: of the new sentences.
        created: YYYY-MM-DD for the provenance; today if None.
        progress: called with the requests dealt with and those known so far, which grow with further attempts.

    Raises:
        VidsslError: for bad arguments, a store in use, and what no concept would survive, such as a wrong key or model.
    """
    open_ = first_requests(concepts, backend, what, count, sampling)
    words: dict[str, dict[str, Any]] = {concept.id: {} for concept in concepts.concepts}  # of good answers
    faults = {(request.concept.id, request.task): ["not asked"] for request in open_}
    judge = Judge(concepts.names, count)
    counts = Counter(asked=0, answered=0, stored=0)
    done, total = 0, 0
    with AnswerStore(store) as answers:
        for _ in range(attempts):
            missing = {request.key: request for request in open_ if request.key not in answers.found}
            counts.update(asked=len(missing), stored=len(open_) - len(missing))
            done, total = done + len(open_) - len(missing), total + len(open_)
            progress(done, total)
            silence: dict[str, str] = {}  # why there is no answer
            # Asked even when nothing is missing: a back-end that writes the open requests to a file has to know.
            for request, outcome in backend.answer(list(missing.values())):
                done += 1
                progress(done, total)
                if isinstance(outcome, NoAnswer):
                    silence[request.key] = outcome.reason
                else:
                    answers.add(request, outcome)
                    counts["answered"] += 1
            bad = []
            for request in open_:
                concept, answer = request.concept, answers.found.get(request.key)
                if answer is None:
                    why = [silence.get(request.key, "the back-end did not come back to it")]
                else:
                    found, why = judge.judge(concept, request.task, answer.text)
                    words[concept.id] |= found
                    if why:
                        bad.append(request.again(answer.text, why))
                faults[concept.id, request.task] = why
            open_ = bad
    empty = {"attributes": None} if "attributes" in what else {}
    new = [
        concept.model_copy(update=empty | words[concept.id])
        for concept in concepts.concepts
        if "descriptions" in words[concept.id] or "descriptions" not in what
    ]
    created = created or datetime.now(UTC).date().isoformat()
    origin = provenance(concepts.provenance, backend, what, sampling, created)
    license = license if "descriptions" in what else concepts.license
    changes = {"concepts": tuple(new), "license": license, "provenance": origin}
    counts["damaged_lines"] = answers.damaged
    failures = tuple(Failure(*place, tuple(why)) for place, why in faults.items() if why)
    return Generation(concepts.model_copy(update=changes), failures, counts)


def make_backend(kind: str, **options: Any) -> Backend:
    """A back-end from its name and its arguments; arguments that are None count as not given.

    Raises:
        VidsslError: for an argument that this back-end lacks or does not have.
    """
    given = {key: value for key, value in options.items() if value is not None}
    try:
        backend: Backend = BACKENDS[kind](**given)
    except TypeError as error:
        raise VidsslError(f"backend {kind}: {error}") from None
    return backend


def provenance(
    before: Provenance | None, backend: Backend, what: Sequence[Task], sampling: Sampling, created: str
) -> Provenance:
    """Of the descriptions; where only attributes are new, that of the old descriptions with a note."""
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
        note=note if {"descriptions", "attributes"} <= set(what) else None,
    )
