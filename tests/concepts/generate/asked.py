"""What tests of generation share: requests, and a job about a list of names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vidssl.concepts.generate import job
from vidssl.concepts.generate.asking import Backend, Message, Request
from vidssl.concepts.prompts import Concept, ConceptFile, Sampling, concepts_from_names


def request(subject: str, *messages: Message, sampling: Sampling | None = None, **changes: Any) -> Request:
    """A question for descriptions of a concept of that name."""
    base: dict[str, Any] = {
        "concept": Concept(id="x", name=subject),
        "task": "descriptions",
        "retry": "Wrong: {faults}.",
        "model": "m",
        "revision": None,
        "messages": messages or (Message("user", subject),),
        "sampling": sampling or Sampling(seed=0),
    }
    return Request(**{**base, **changes})


def generate(
    concepts: ConceptFile | Sequence[str],
    backend: Backend,
    *,
    store: Path | None = None,
    name: str = "generated",
    **options: Any,
) -> job.Generation:
    """The job, about names too, with a store that nobody keeps where none is named."""
    if not isinstance(concepts, ConceptFile):
        concepts = concepts_from_names(concepts, name)
    with TemporaryDirectory() as folder:
        return job.generate(concepts, backend, store or Path(folder) / "answers.jsonl", **options)
