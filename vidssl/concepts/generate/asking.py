"""What is asked of a language model and what comes back, the same for every back-end, and one without a model."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from vidssl.concepts.names import slug, stems
from vidssl.concepts.prompts import Attributes, Sampling
from vidssl.errors import VidsslError

Task = Literal["descriptions", "attributes"]
SAMPLING = Sampling(temperature=0.7, top_p=0.95, max_new_tokens=400, seed=0)
_FILLER = ("Filler", "dummy", "blank", "sample", "token", "matter", "stuff", "padding")


class Message(NamedTuple):
    """A turn of a conversation; `role` is ``system``, ``user`` or ``assistant``."""

    role: str
    content: str


class Answer(NamedTuple):
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
        subject: name of the concept that it is about; not part of the key.
        task: which kind of answer is wanted.
        count: how many sentences are wanted.
        model, revision: who is asked.
        messages: the conversation up to now.
        sampling: how the answer is drawn.
    """

    subject: str
    task: Task
    count: int
    model: str
    revision: str | None
    messages: tuple[Message, ...]
    sampling: Sampling

    @property
    def content(self) -> dict[str, Any]:
        """All that the answer depends on, as JSON."""
        return {
            "model": self.model,
            "revision": self.revision,
            "messages": [message._asdict() for message in self.messages],
            "parameters": self.sampling.model_dump(exclude_none=True),
        }

    @cached_property
    def key(self) -> str:
        """sha256 (hex) over model, messages and parameters."""
        text = json.dumps(self.content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def custom_id(self) -> str:
        """A readable name with half of the key; at most 64 of the characters that batch interfaces allow."""
        readable = re.sub(r"[^a-z0-9-]", "", slug(self.subject))[:31]
        return f"{readable or 'request'}-{self.key[:32]}"

    @property
    def tokens(self) -> int:
        """Estimated length of the messages: four characters a token, and four tokens around each turn."""
        return sum(math.ceil(len(message.content) / 4) + 4 for message in self.messages)


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


def check_sampling(sampling: Sampling) -> None:
    """Refuse values that no back-end can use.

    Raises:
        VidsslError: naming them, and what is allowed.
    """
    bounds = {
        "temperature": (0, 10),
        "top_p": (1e-6, 1),
        "top_k": (1, 2**31),
        "max_new_tokens": (1, 2**31),
        "seed": (0, 2**63 - 1),
    }
    for key, value in sampling.model_dump(exclude_none=True).items():
        if not bounds[key][0] <= value <= bounds[key][1]:
            raise VidsslError(f"sampling {key}={value}: must be {bounds[key][0]} to {bounds[key][1]}")


def without_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """What is said, for models that know no system role: it becomes the beginning of the first turn."""
    if messages[0].role != "system":
        return tuple(messages)
    first, second, *rest = messages
    return (Message("user", f"{first.content}\n\n{second.content}"), *rest)


class EchoBackend:
    """Answers with filler that passes the rules of the concept file and describes nothing; for tests and dry runs."""

    generator = model = "echo"
    revision: str | None = None

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """The same answer to the same question, in order."""
        for request in requests:
            yield request, Answer(json.dumps(_filler(request)), "stop")


def _filler(request: Request) -> dict[str, list[str]]:
    if request.task == "attributes":
        words = {key: [f"filler {_mark(request.subject)}"] for key in Attributes.model_fields}
        return {**words, "phases": ["beginning", "end"], "synonyms": []}
    own = stems(request.subject)
    a, b, c, d = [word for word in _FILLER if not stems(word) & own][:4]
    rest = [f"{a} {_mark(f'{request.subject} {n}')} {b} {c} {d}." for n in range(1, request.count)]
    return {"descriptions": [f"A person is seen {' '.join(request.subject.split()[:14])} here.", *rest]}


def _mark(text: str) -> str:
    """Eight letters that stand for a text."""
    return "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(text.encode()).digest()[:8])
