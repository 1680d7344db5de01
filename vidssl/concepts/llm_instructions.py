"""The instructions in ``prompts/instructions``: plain text with the parts ``system:``, ``user:`` and ``retry:``.

A part begins where a line begins with its name. ``{name}`` and the like are filled in one pass, so that braces in
names, and those of the JSON that an instruction asks for, are harmless.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vidssl.concepts.llm_request import Message
from vidssl.concepts.sources import read_source
from vidssl.errors import VidsslError, did_you_mean
from vidssl.resources import resource_folder

DESCRIBE, ATTRIBUTES, NAMES = "describe-v2", "attributes-v1", "names-v1"
RETRY = "This answer cannot be used: {faults}. Answer again, completely, with nothing but the JSON asked for."
_PART = re.compile(r"^(system|user|retry):[ \t]*", re.MULTILINE)
_FIELD = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Instruction:
    """An instruction.

    Attributes:
        id: name of the file without ``.txt``.
        sha256: of the whole text (hex).
        system, user, retry: its parts; `system` may be empty, `retry` is what a bad answer is replied with.
    """

    id: str
    sha256: str
    system: str
    user: str
    retry: str

    def messages(self, fields: Mapping[str, str]) -> tuple[Message, ...]:
        """The opening of a conversation.

        Raises:
            VidsslError: for a placeholder that is no field.
        """
        opening = [Message("system", self._fill(self.system, fields))] if self.system else []
        return (*opening, Message("user", self._fill(self.user, fields)))

    def reply(self, fields: Mapping[str, str], faults: str) -> Message:
        """What to tell a model whose answer was not good enough."""
        return Message("user", self._fill(self.retry, {**fields, "faults": faults}))

    def _fill(self, text: str, fields: Mapping[str, str]) -> str:
        def value(match: re.Match[str]) -> str:
            field = match[1]
            if field not in fields:
                raise VidsslError(
                    f"instruction {self.id}: unknown placeholder {{{field}}}{did_you_mean(field, fields)}"
                    f" ({', '.join(fields)})"
                )
            return fields[field]

        return _FIELD.sub(value, text)


def read_instruction(given: str | Path) -> Instruction:
    """An instruction of this package by its id, or a file of one's own.

    Text without parts is the ``user:`` part.

    Raises:
        VidsslError: when there is none of that name, it is no text, or has no ``user:`` part.
    """
    folder = resource_folder("prompts") / "instructions"
    shipped = folder / f"{given}.txt"
    path = shipped if shipped.is_file() else Path(given).expanduser()
    if not path.is_file():
        known = sorted(file.stem for file in folder.glob("*.txt"))
        raise VidsslError(
            f"instruction {str(given)!r}: no such file{did_you_mean(str(given), known)} ({', '.join(known)})"
        )
    text = read_source(path).text
    pieces = _PART.split(text)
    parts = {name: body.strip() for name, body in zip(pieces[1::2], pieces[2::2], strict=True)}
    if not parts:
        parts = {"user": text.strip()}
    if not parts.get("user"):
        raise VidsslError(f"{path}: no part that begins with 'user:'")
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    return Instruction(path.stem, sha256, parts.get("system", ""), parts["user"], parts.get("retry", RETRY))
