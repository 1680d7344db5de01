"""Answers on disk, so that what was paid for is never asked again, and questions to a file with answers back from files.

>>> backend = FileBackend("todo.jsonl", answers=["batch_output.jsonl"], model="some-model")
>>> generate(names, backend, store="answers.jsonl")     # takes what is answered, writes what is open to todo.jsonl
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from io import FileIO
from pathlib import Path

from vidssl.concepts.generate.asking import MALFORMED, Answer, NoAnswer, Request, clean_text
from vidssl.concepts.generate.server import chat_body, read_completion, snippet
from vidssl.errors import VidsslError
from vidssl.files import write_text


class AnswerStore:
    """Answers by the key of their request, one JSON line each; to be used in a ``with`` block by one process at a time.

    A process killed in the middle of a write leaves a torn last line; the next one to open the file cuts it off.

    Args:
        path: of the file, made with its folders when it is not there.

    Attributes:
        found: answers by key.
        damaged: lines that could not be read and count as unanswered.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.found: dict[str, Answer] = {}

    def __enter__(self) -> AnswerStore:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = FileIO(self.path, "a+")
            self._lock()
            data = self.path.read_bytes()
        except OSError as error:
            raise VidsslError(f"{self.path}: cannot be used for answers: {error.strerror}") from None
        *lines, tail = data.split(b"\n")
        self.damaged = sum(not self._remember(line) for line in lines)
        if self._remember(tail):
            self._file.write(b"\n")
        else:
            self._file.truncate(len(data) - len(tail))
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, request: Request, answer: Answer) -> None:
        """Keep an answer; it is on the disk when this returns.

        Raises:
            VidsslError: when it cannot be written; what was there before stays good.
        """
        answer = Answer(clean_text(answer.text), answer.finish)
        self.found[request.key] = answer
        record = {"key": request.key, "subject": request.concept.name, **request.content}
        now = datetime.now(UTC).isoformat(timespec="seconds")
        record |= {"answer": answer.text, "finish": answer.finish, "at": now}
        line = json.dumps(record).encode() + b"\n"
        try:
            while line:
                line = line[self._file.write(line) :]
            os.fsync(self._file)
        except OSError as error:
            raise VidsslError(f"{self.path}: cannot be written: {error.strerror}") from None

    def _lock(self) -> None:
        try:
            import fcntl

            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VidsslError(f"{self.path}: another process is writing to it") from None
        except (ImportError, OSError):
            return  # a system, or a file system, without locks

    def _remember(self, line: bytes) -> bool:
        try:
            record = json.loads(line)
            bytes.fromhex(record["key"])  # a digest
            self.found[record["key"]] = Answer(record["answer"], record.get("finish"))
        except MALFORMED:
            return False
        return True


class FileBackend:
    """Exchanges JSON lines with whoever answers them: a batch interface, or a machine without a network.

    Each run takes in the answers that there are, in any order, and leaves the questions still open, among them those
    whose answers were not good enough.

    Args:
        requests: file for the open questions as a batch interface takes them (custom_id, method, url, body), written
            anew by every run; empty when none is open.
        answers: files with a ``custom_id`` and an answer on each line: the output of a batch interface, or
            ``{"custom_id": …, "answer": …}``.
        model: who will answer, for the requests and the provenance.

    Raises:
        VidsslError: for a file of answers that cannot be read.
    """

    generator = "file"
    revision: str | None = None

    def __init__(self, requests: str | Path, answers: Sequence[str | Path] = (), *, model: str) -> None:
        self.model = model
        self._path = Path(requests).expanduser()
        self._open: list[Request] = []
        self._answers: dict[str, Answer] = {}
        self._unusable: list[str] = []  # lines without an answer: where, and why
        for file in answers:
            self._take(Path(file).expanduser())

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Requests of all calls that are open end up in the file."""
        self._open += [request for request in requests if request.custom_id not in self._answers]
        post = {"method": "POST", "url": "/v1/chat/completions"}
        lines = [{"custom_id": each.custom_id, **post, "body": chat_body(each)} for each in self._open]
        write_text(self._path, "".join(json.dumps(line) + "\n" for line in lines))
        unusable = f" ({len(self._unusable)} unusable lines: {self._unusable[0]})" if self._unusable else ""
        for request in requests:
            missing = NoAnswer(f"waiting for an answer to {request.custom_id} in {self._path.name}{unusable}")
            yield request, self._answers.get(request.custom_id, missing)

    def _take(self, path: Path) -> None:
        """All usable lines of a file; the first answer to a question stays."""
        try:
            lines = path.read_bytes().splitlines()
        except OSError as error:
            raise VidsslError(f"{path}: cannot be read: {error.strerror}") from None
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
                answer = (
                    Answer(row["answer"]) if "answer" in row else read_completion(row["response"]["body"])
                )
                self._answers.setdefault(row["custom_id"], answer)
            except MALFORMED:
                said = snippet(line.decode(errors="replace"))
                self._unusable.append(f"{path}:{number}: no JSON with custom_id and answer: {said}")
