"""Answers on disk, so that what was paid for is never asked again, and questions to a file with answers back from files.

>>> backend = FileBackend("todo.jsonl", answers=["batch_output.jsonl"], model="some-model")
>>> generate(names, backend, store="answers.jsonl")     # takes what is answered, writes what is open to todo.jsonl
"""

from __future__ import annotations

import json
import os
import sys
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
            self._lock(self._file)
            data = self.path.read_bytes()
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
        record = {"key": request.key, "subject": request.subject, **request.content}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record |= {"answer": answer.text, "finish": answer.finish, "at": now}
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file)
        except OSError as error:
            raise VidsslError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _lock(self, file: FileIO) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VidsslError(f"{self.path}: another process is writing to it") from None
        except OSError:
            return  # a file system without locks

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
    revision: str | None = None

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
        self.model, self._format = model, format
        self._path = Path(requests).expanduser()
        self._open: list[Request] = []
        self._answers: dict[str, Answer] = {}
        self._unusable: list[str] = []  # lines without an answer: where, and why
        for file in answers:
            self._take(Path(file).expanduser())

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Requests of all calls that are open end up in the file."""
        self._open += [request for request in requests if request.custom_id not in self._answers]
        write_text(self._path, "".join(json.dumps(self._line(request)) + "\n" for request in self._open))
        unusable = f" ({len(self._unusable)} unusable lines: {self._unusable[0]})" if self._unusable else ""
        for request in requests:
            missing = NoAnswer(f"waiting for an answer to {request.custom_id} in {self._path.name}{unusable}")
            yield request, self._answers.get(request.custom_id, missing)

    def _line(self, request: Request) -> dict[str, Any]:
        line: dict[str, Any] = {"custom_id": request.custom_id}
        if self._format == "plain":
            return {**line, "messages": request.content["messages"]}
        return {**line, "method": "POST", "url": "/v1/chat/completions", "body": chat_body(request)}

    def _take(self, path: Path) -> None:
        """All usable lines of a file; the first answer to a question stays."""
        try:
            lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").splitlines()
        except OSError as error:
            raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            try:
                data = json.loads(line or "{}")
                self._answers.setdefault(str(data["custom_id"]), read_answer(data))
            except (ValueError, RecursionError, TypeError, KeyError) as error:
                if line.strip():
                    self._unusable.append(f"{path}:{number}: no JSON with custom_id and answer ({error})")


def read_answer(line: Mapping[str, Any]) -> Answer:
    """The answer on a line: a batch interface's output, a completion, a conversation with its last turn, or a text.

    Raises:
        ValueError: when there is none.
    """
    holders = [line]
    for place in ("response", "result", "body", "message"):
        holders += [inner for holder in holders if isinstance(inner := holder.get(place), dict)]
    turns = line.get("messages")
    if isinstance(turns, list):
        holders += [turn for turn in turns[-1:] if isinstance(turn, dict) and turn.get("role") == "assistant"]
    if line.get("error"):
        raise ValueError(f"error: {json.dumps(line['error'])[:200]}")
    for holder in holders:
        if (answer := read_completion(holder)) is not None:
            return answer
    for holder in holders:
        for key in _TEXT_KEYS:
            if (text := joined(holder.get(key))) is not None:
                return Answer(text)
    raise ValueError(f"no answer under {', '.join(_TEXT_KEYS)}, choices or response.body.choices")
