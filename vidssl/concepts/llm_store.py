"""Answers on disk, one JSON line each, appended and flushed as they come: what was paid for is never asked again.

A process killed in the middle of a write leaves a torn last line; the next one to open the file cuts it off.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from vidssl.concepts.llm_request import Answer, Request
from vidssl.errors import VidsslError


class AnswerStore:
    """Answers by the key of their request; to be used in a ``with`` block by one process at a time.

    Args:
        path: of the JSONL file, made with its folders when it is not there; None keeps answers in memory only.

    Attributes:
        damaged: lines that could not be read and count as unanswered.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else Path(path).expanduser()
        self.damaged = 0
        self._answers: dict[str, Answer] = {}
        self._file: int | None = None

    def __enter__(self) -> AnswerStore:
        if self.path is None:
            return self
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            self._lock(self._file)
            data = self.path.read_bytes()
        except OSError as error:
            self.close()
            raise VidsslError(f"{self.path}: cannot be used for answers: {error.strerror}") from None
        except VidsslError:
            self.close()
            raise
        end = data.rfind(b"\n") + 1
        self._load(data[:end])
        torn = data[end:]
        if torn and self._remember(torn):
            os.write(self._file, b"\n")
        elif torn:
            os.ftruncate(self._file, end)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self._answers)

    def close(self) -> None:
        """Let others use the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def get(self, key: str) -> Answer | None:
        """The answer to a request, if there is one."""
        return self._answers.get(key)

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
        self._answers[request.key] = answer
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
                line = line[os.write(self._file, line) :]
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
        self._answers[key] = Answer(answer, finish if isinstance(finish, str) else None)
        return True

    def _lock(self, file: int) -> None:
        if sys.platform == "win32":
            return
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VidsslError(f"{self.path}: another process is writing to it") from None
        except OSError:
            return  # a file system without locks
