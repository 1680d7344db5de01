"""Answers on disk, so that what was paid for is never asked again, and questions to a file with answers back from files.

>>> backend = FileBackend("todo.jsonl", answers=["batch_output.jsonl"], model="some-model")
>>> generate(names, backend, store="answers.jsonl")     # takes what is answered, writes what is open to todo.jsonl
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path
from typing import Any, Literal, get_args

from vidssl.concepts.generate.asking import Answer, NoAnswer, Request
from vidssl.concepts.generate.server import chat_body, joined, read_completion
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.files import write_text

Format = Literal["batch", "plain"]
_TEXT_KEYS = ("answer", "content", "text", "output", "response", "completion")


class AnswerStore:
    """Answers by the key of their request, one JSON line each; to be used in a ``with`` block by one process at a time.

    A process killed in the middle of a write leaves a torn last line; the next one to open the file cuts it off.

    Args:
        path: of the file, made with its folders when it is not there; None keeps answers in memory only.

    Attributes:
        found: answers by key.
        damaged: lines that could not be read and count as unanswered.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.damaged = 0
        self.found: dict[str, Answer] = {}
        self._file: FileIO | None = None

    def __enter__(self) -> AnswerStore:
        if self.path is None:
            return self
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "a+")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = self.path.read_bytes()
        except BlockingIOError:
            raise VidsslError(f"{self.path}: another process is writing to it") from None
        except OSError as error:
            raise VidsslError(f"{self.path}: cannot be used for answers: {error.strerror}") from None
        end = data.rfind(b"\n") + 1
        self._load(data[:end])
        if data[end:] and self._remember(data[end:]):
            self._file.write(b"\n")
        else:
            self._file.truncate(end)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def peek(self) -> AnswerStore:
        """Read the file without locking, mending or making it: for a look at what is there already."""
        if self.path is not None and self.path.is_file():
            self._load(self.path.read_bytes())
        return self

    def add(self, request: Request, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            VidsslError: when it cannot be written; what was there before stays good.
        """
        self.found[request.key] = answer
        if self._file is None:
            return
        record = {
            "key": request.key,
            "subject": request.subject,
            **request.content,
            "answer": answer.text,
            "finish": answer.finish,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file)
        except OSError as error:
            raise VidsslError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _load(self, data: bytes) -> None:
        for line in data.splitlines():
            if line.strip() and not self._remember(line):
                self.damaged += 1

    def _remember(self, line: bytes) -> bool:
        try:
            record = json.loads(line)
            key, answer, finish = record["key"], record["answer"], record.get("finish")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return False
        if not isinstance(key, str) or not isinstance(answer, str):
            return False
        self.found[key] = Answer(answer, finish if isinstance(finish, str) else None)
        return True


class FileBackend:
    """Exchanges JSON lines with whoever answers them: a batch interface, a chat window, a machine without a network.

    Each run takes in the answers that there are, in any order, and leaves the questions still open, among them those
    whose answers were not good enough.

    Args:
        requests: file for the open questions, written anew by every run; empty when none is open.
        answers: files with a ``custom_id`` and an answer on each line: the output of a batch interface, or
            ``{"custom_id": …, "answer": …}``.
        model: who will answer, for the requests and the provenance.
        format: ``batch`` lines hold custom_id, method, url and body; ``plain`` ones custom_id and messages.

    Raises:
        VidsslError: for an unknown format, a missing model, or answers that cannot be read.
    """

    generator = "file"
    revision = None

    def __init__(
        self,
        requests: str | Path,
        answers: Sequence[str | Path] = (),
        *,
        model: str,
        format: Format = "batch",
    ) -> None:
        check_choice("format", format, get_args(Format), NAMED)
        if not model.strip():
            raise VidsslError("model: empty; name the model that will answer")
        self.model = model
        self._path, self._format = Path(requests).expanduser(), format
        self._open: list[Request] = []
        self._answers: dict[str, Answer] = {}
        self._unusable: list[str] = []  # places of lines without an answer, and what they lack
        for file in answers:
            self._take(Path(file).expanduser())

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Requests of all calls that are open end up in the file."""
        waiting = [request for request in requests if request.custom_id not in self._answers]
        self._open += waiting
        write_text(self._path, "".join(json.dumps(self._line(request)) + "\n" for request in self._open))
        unusable = f" ({len(self._unusable)} unusable lines: {self._unusable[0]})" if self._unusable else ""
        for request in requests:
            missing = NoAnswer(f"waiting for an answer to {request.custom_id} in {self._path.name}{unusable}")
            yield request, self._answers.get(request.custom_id, missing)

    def _line(self, request: Request) -> dict[str, Any]:
        if self._format == "plain":
            messages = [message._asdict() for message in request.messages]
            return {"custom_id": request.custom_id, "messages": messages}
        where = {"method": "POST", "url": "/v1/chat/completions"}
        return {"custom_id": request.custom_id, **where, "body": chat_body(request)}

    def _take(self, path: Path) -> None:
        """All usable lines of a file; the first answer to a question stays."""
        try:
            lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                data = json.loads(line)
                custom_id, answer = str(data["custom_id"]), read_answer(data)
            except (ValueError, RecursionError, TypeError, KeyError):
                answer = NoAnswer("no JSON with a custom_id")
            if isinstance(answer, Answer):
                self._answers.setdefault(custom_id, answer)
            else:
                self._unusable.append(f"{path}:{number}: {answer.reason}")


def read_answer(line: Mapping[str, Any]) -> Answer | NoAnswer:
    """The answer on a line: a batch interface's output, a completion, a conversation with its last turn, or a text."""
    if line.get("error"):
        return NoAnswer(f"error: {json.dumps(line['error'])[:200]}")
    for holder in (_inside(line, "response", "body"), line.get("body"), line):
        if (answer := read_completion(holder)) is not None:
            return answer
    if (status := _inside(line, "response", "status_code")) not in (None, 200):
        return NoAnswer(f"status {status}")
    message = _inside(line, "result", "message") or line.get("message")
    messages = line.get("messages")
    if isinstance(messages, list) and messages and _inside(messages[-1], "role") == "assistant":
        message = messages[-1]
    for holder in (line, message):
        for key in _TEXT_KEYS:
            if (text := joined(_inside(holder, key))) is not None:
                return Answer(text)
    return NoAnswer(f"no answer under {', '.join(_TEXT_KEYS)}, choices or response.body.choices")


def _inside(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value
