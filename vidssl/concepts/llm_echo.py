"""A back-end without a model: the same question always gets the same, plainly artificial answer.

For tests and dry runs, and to see what a file looks like before a model is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence

from vidssl.concepts.llm_request import Answer, Backend, NoAnswer, Request
from vidssl.concepts.prompts import Attributes
from vidssl.concepts.words import stems

_FILLER = ("Filler", "dummy", "blank", "sample", "token", "matter", "stuff", "padding")


class EchoBackend(Backend):
    """Answers with filler that passes the rules of the concept file and describes nothing."""

    generator = "echo"
    model = "echo"
    revision = None

    def __init__(self) -> None:
        """There is nothing to choose."""

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """One answer for each request, in order."""
        for request in requests:
            yield request, Answer(json.dumps(self._words(request)), "stop")

    def _words(self, request: Request) -> dict[str, list[str]]:
        if request.task == "attributes":
            words = {key: [f"filler {_mark(request.subject)}"] for key in Attributes.model_fields}
            return {**words, "phases": ["beginning", "end"], "synonyms": []}
        if request.task == "names":
            # The key counts in, so that asking for more brings others.
            return {"names": [f"doing filler {_mark(f'{request.key} {n}')}" for n in range(request.count)]}
        own = stems(request.subject)
        a, b, c, d = [word for word in _FILLER if not stems(word) & own][:4]
        rest = [f"{a} {_mark(f'{request.subject} {n}')} {b} {c} {d}." for n in range(1, request.count)]
        return {"descriptions": [f"A person is seen {' '.join(request.subject.split()[:14])} here.", *rest]}


def _mark(text: str) -> str:
    """Eight letters that stand for a text."""
    return "".join(chr(ord("a") + byte % 26) for byte in hashlib.sha256(text.encode()).digest()[:8])
