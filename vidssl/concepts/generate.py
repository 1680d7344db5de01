"""Have a language model write descriptions and attributes of actions, and keep only what passes the rules.

    >>> backend = OpenAIBackend("http://127.0.0.1:8000/v1", "my-model")
    >>> result = generate(load_concepts("ucf101"), backend, store="ucf101.answers.jsonl")
    >>> write_concepts(result.concepts, "ucf101.json")
    >>> result.failures                                  # asked again when this is run again

The store keeps every answer; the same call goes on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vidssl.concepts.llm_job import Failure, Job
from vidssl.concepts.llm_request import SAMPLING, Backend, Message, Task
from vidssl.concepts.llm_rounds import Counts, Progress, hold_rounds
from vidssl.concepts.llm_store import AnswerStore
from vidssl.concepts.prompts import ConceptFile, Sampling
from vidssl.concepts.rules import MIN_DESCRIPTIONS
from vidssl.errors import VidsslError


@dataclass(frozen=True)
class Generation:
    """What became of a run.

    Attributes:
        concepts: those with good answers, with the provenance of their words. A concept whose descriptions failed is
            left out; one whose attributes failed has none.
        failures: one for each concept and task.
        counts: requests sent and answered, and answers that were in the store already.
        damaged: unreadable lines of the store, which count as unanswered.
    """

    concepts: ConceptFile
    failures: tuple[Failure, ...]
    counts: Counts
    damaged: int = 0

    def record(self) -> dict[str, Any]:
        """JSON-able report."""
        return {
            "concepts": len(self.concepts),
            **asdict(self.counts),
            "damaged_lines": self.damaged,
            "failures": [asdict(failure) for failure in self.failures],
        }


@dataclass(frozen=True)
class Preview:
    """A request as it would be sent.

    Attributes:
        concept: name of the concept; task: what is asked for; key: of the request.
        messages: the prompt; tokens: estimate of its length.
        stored: whether the answer is there already, so that nothing is sent.
    """

    concept: str
    task: Task
    key: str
    messages: tuple[Message, ...]
    tokens: int
    stored: bool


@dataclass(frozen=True)
class Plan:
    """What `generate` would ask first: further attempts for bad answers come on top.

    Attributes:
        requests: all of them.
        prompt_tokens: estimate over those that would be sent.
        answer_tokens: bound over the same, None when the sampling sets none.
    """

    requests: tuple[Preview, ...]
    prompt_tokens: int
    answer_tokens: int | None


def generate(
    names: ConceptFile | Sequence[str],
    backend: Backend,
    *,
    name: str = "generated",
    what: Sequence[Task] = ("descriptions",),
    count: int = MIN_DESCRIPTIONS,
    instructions: Mapping[Task, str | Path] | None = None,
    contexts: Mapping[str, str] | None = None,
    similar: int = 3,
    sampling: Sampling = SAMPLING,
    attempts: int = 3,
    store: str | Path | None = None,
    license: str | None = None,
    created: str | None = None,
    progress: Progress | None = None,
) -> Generation:
    """Ask for words about every concept until they pass the rules of the concept file, or `attempts` is used up.

    Args:
        names: concepts in the order of the rows; a file keeps its aliases, sources, templates, and what is not asked for.
        backend: whom to ask: `EchoBackend`, `FileBackend`, `OpenAIBackend`, `TransformersBackend`.
        name: of the space, where `names` is a list.
        what: ``descriptions``, ``attributes`` (with synonyms, which become aliases) or both; one request each.
        count: sentences of a concept, at least 4.
        instructions: id of a shipped instruction or a file, by task.
        contexts: notes on concepts by name, instead of those on their data sets.
        similar: names of the nearest other concepts that the model is told to keep apart.
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
    job = Job(names, name, what, count, instructions, contexts, similar, sampling)
    with AnswerStore(store) as answers:
        counts = hold_rounds(
            job.conversations, backend, answers, sampling=sampling, attempts=attempts, progress=progress
        )
        damaged = answers.damaged
    created = created or datetime.now(UTC).date().isoformat()
    return Generation(job.file(backend, license, created), job.failures(), counts, damaged)


def plan(
    names: ConceptFile | Sequence[str],
    backend: Backend,
    *,
    name: str = "generated",
    what: Sequence[Task] = ("descriptions",),
    count: int = MIN_DESCRIPTIONS,
    instructions: Mapping[Task, str | Path] | None = None,
    contexts: Mapping[str, str] | None = None,
    similar: int = 3,
    sampling: Sampling = SAMPLING,
    store: str | Path | None = None,
) -> Plan:
    """What `generate` with these arguments would ask, without asking or writing anything."""
    job = Job(names, name, what, count, instructions, contexts, similar, sampling)
    answers = AnswerStore(store).peek()
    previews = []
    for conversation in job.conversations:
        request = conversation.request(backend, sampling)
        stored = answers.get(request.key) is not None
        previews.append(
            Preview(
                conversation.subject,
                conversation.task,
                request.key,
                request.messages,
                request.tokens,
                stored,
            )
        )
    sent = [preview for preview in previews if not preview.stored]
    longest = sampling.max_new_tokens
    return Plan(
        tuple(previews),
        sum(preview.tokens for preview in sent),
        None if longest is None else longest * len(sent),
    )
