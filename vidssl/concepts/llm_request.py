"""What is asked of a language model and what comes back, the same for every back-end."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

from vidssl.concepts.names import slug
from vidssl.concepts.prompts import Attributes, Sampling
from vidssl.errors import VidsslError

Task = Literal["descriptions", "attributes", "names"]
SAMPLING = Sampling(temperature=0.7, top_p=0.95, max_new_tokens=400, seed=0)


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
        subject: what it is about, such as the name of a concept; not part of the key.
        task: which kind of answer is wanted.
        count: how many sentences or names are wanted.
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
    """Whoever answers requests."""

    @property
    def generator(self) -> str:
        """Name of the interface, for the provenance."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def revision(self) -> str | None:
        """Which state of the model, where known."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """Each request with what became of it, in any order, as soon as it is known.

        Raises:
            VidsslError: for a mistake that no other request would survive either, such as an unknown model.
        """


def check_sampling(sampling: Sampling) -> None:
    """Refuse values that no back-end can use.

    Raises:
        VidsslError: naming the first of them.
    """
    bounds: dict[str, tuple[bool, str]] = {
        "temperature": (sampling.temperature is None or 0 <= sampling.temperature <= 10, "0 to 10"),
        "top_p": (sampling.top_p is None or 0 < sampling.top_p <= 1, "above 0, at most 1"),
        "top_k": (sampling.top_k is None or sampling.top_k >= 1, "1 or more"),
        "max_new_tokens": (sampling.max_new_tokens is None or sampling.max_new_tokens >= 1, "1 or more"),
        "seed": (sampling.seed is None or 0 <= sampling.seed < 2**63, "0 to 2**63 - 1"),
    }
    for key, (good, allowed) in bounds.items():
        if not good:
            raise VidsslError(f"sampling {key}={getattr(sampling, key)}: must be {allowed}")


def answer_schema(task: Task) -> dict[str, Any]:
    """JSON schema of an answer, in the part of the standard that all servers with such a thing understand."""
    texts = {"type": "array", "items": {"type": "string"}}
    keys = [*Attributes.model_fields, "synonyms"] if task == "attributes" else [task]
    return {
        "type": "object",
        "properties": dict.fromkeys(keys, texts),
        "required": keys,
        "additionalProperties": False,
    }
