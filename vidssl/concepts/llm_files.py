"""Questions to a file, answers from files: for batch interfaces, for chat windows, for machines without a network.

    >>> backend = FileBackend("todo.jsonl", answers=["batch_output.jsonl"], model="some-model")
    >>> generate(names, backend, store="answers.jsonl")     # takes what is answered, writes what is open to todo.jsonl

Each run takes in the answers that there are, in any order, and leaves the questions still open, among them those whose
answers were not good enough.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from vidssl.concepts.llm_openai import chat_body, read_completion
from vidssl.concepts.llm_request import Answer, Backend, NoAnswer, Request
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.files import write_text

Format = Literal["batch", "plain"]
MAX_LINE = 2**20  # bytes
_TEXT_KEYS = ("answer", "content", "text", "output", "response", "completion")


class FileBackend(Backend):
    """Exchanges JSON lines with whoever answers them.

    Args:
        requests: file for the open questions, written anew by every run; empty when none is open.
        answers: files with a ``custom_id`` and an answer on each line: the output of a batch interface, or
            ``{"custom_id": …, "answer": …}``.
        model: who will answer, for the requests and the provenance.
        revision: of the model.
        format: ``batch`` lines hold custom_id, method, url and body; ``plain`` ones custom_id and messages.
        json_schema: ask for a JSON schema in batch lines.

    Attributes:
        open: requests written by the last run.
        unused: custom_ids of answers that nobody waited for: taken in earlier, or of other questions.
        unusable: (file:line, reason) of lines without an answer.

    Raises:
        VidsslError: for an unknown format, a missing model, or answers that cannot be read.
    """

    generator = "file"

    def __init__(
        self,
        requests: str | Path,
        answers: Sequence[str | Path] = (),
        *,
        model: str,
        revision: str | None = None,
        format: Format = "batch",
        json_schema: bool = True,
    ) -> None:
        check_choice("format", format, get_args(Format), NAMED)
        if not model.strip():
            raise VidsslError("model: empty; name the model that will answer")
        self._path = Path(requests).expanduser()
        self._model, self._revision = model, revision
        self._format = format
        self._conceded = frozenset() if json_schema else frozenset({"schema"})
        self.open: list[Request] = []
        self.unusable: list[tuple[str, str]] = []
        self._answers: dict[str, Answer] = {}
        self._used: set[str] = set()
        for file in answers:
            self._take(Path(file).expanduser())

    @property
    def model(self) -> str:
        """As given."""
        return self._model

    @property
    def revision(self) -> str | None:
        """As given."""
        return self._revision

    @property
    def unused(self) -> list[str]:
        """Answers that nobody waited for."""
        return [custom_id for custom_id in self._answers if custom_id not in self._used]

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Requests of all calls that are open end up in the file."""
        waiting = []
        for request in requests:
            answer = self._answers.get(request.custom_id)
            if answer is None:
                waiting.append(request)
            else:
                self._used.add(request.custom_id)
                yield request, answer
        self.open += waiting
        write_text(self._path, "".join(json.dumps(self._line(request)) + "\n" for request in self.open))
        for request in waiting:
            yield request, NoAnswer(f"waiting for an answer to {request.custom_id} in {self._path.name}")

    def _line(self, request: Request) -> dict[str, Any]:
        if self._format == "plain":
            messages = [message._asdict() for message in request.messages]
            return {"custom_id": request.custom_id, "messages": messages}
        body = chat_body(request, self._conceded)
        return {
            "custom_id": request.custom_id,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": body,
        }

    def _take(self, path: Path) -> None:
        """All usable lines of a file; the first answer to a question stays."""
        try:
            with path.open("rb") as stream:
                number = 0
                while line := stream.readline(MAX_LINE + 1):
                    number += 1
                    reason = self._take_line(line)
                    while len(line) > MAX_LINE and not line.endswith(b"\n"):  # the rest of an endless line
                        line = stream.readline(MAX_LINE + 1)
                    if reason is not None:
                        self.unusable.append((f"{path}:{number}", reason))
        except OSError as error:
            raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None

    def _take_line(self, line: bytes) -> str | None:
        if not line.strip():
            return None
        if len(line) > MAX_LINE:
            return f"longer than {MAX_LINE} bytes"
        try:
            data = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
        except (ValueError, RecursionError):
            return "no JSON"
        custom_id = data.get("custom_id") if isinstance(data, dict) else None
        if not isinstance(custom_id, str):
            return "no custom_id"
        answer = read_answer(data)
        if isinstance(answer, NoAnswer):
            return answer.reason
        self._answers.setdefault(custom_id, answer)
        return None


def read_answer(line: Mapping[str, Any]) -> Answer | NoAnswer:
    """The answer on a line: a batch interface's output, a completion, a conversation with its last turn, or a text."""
    if line.get("error"):
        return NoAnswer(f"error: {json.dumps(line['error'])[:200]}")
    for holder in (_inside(line, "response", "body"), _inside(line, "body"), line):
        answer = read_completion(holder)
        if answer is not None:
            return answer
    if (status := _inside(line, "response", "status_code")) not in (None, 200):
        return NoAnswer(f"status {status}")
    message = _inside(line, "result", "message") or _inside(line, "message")
    messages = line.get("messages")
    if isinstance(messages, list) and messages and _inside(messages[-1], "role") == "assistant":
        message = messages[-1]
    for holder in (line, message):
        for key in _TEXT_KEYS:
            text = _inside(holder, key)
            if isinstance(text, list):  # parts of a message
                text = "".join(str(_inside(part, "text") or "") for part in text)
            if isinstance(text, str):
                return Answer(text)
    return NoAnswer(f"no answer under {', '.join(_TEXT_KEYS)}, choices or response.body.choices")


def _inside(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
