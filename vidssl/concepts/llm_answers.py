"""From what a language model says to lists of texts: JSON where it can be found or mended, bullets where not.

Answers are data of unknown origin: cut to a size, read by the JSON parser and by regular expressions, never executed.
"""

from __future__ import annotations

import json
import re
from typing import Any

MAX_ANSWER = 32_768  # characters; the longest good answer has about two thousand
_MAX_STARTS = 64  # places at which a JSON value is looked for
_MAX_DEPTH = 32
_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*?)(?:```|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_BULLET = re.compile(r"\s*(?:[-*•–+]|\(?\d{1,2}[.):])\s+(\S.*)|\s*\"(.+)\",?\s*$")
_LEAD = re.compile(r"(?:[-*•–+]|\(?\d{1,2}[.):])\s+")
_HEADING = re.compile(r"[A-Z][A-Za-z ,/&-]{2,40}:\s+(?=[A-Z])")
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "`": None})


def clean_text(text: str) -> str:
    """At most `MAX_ANSWER` characters that can be written as UTF-8, control characters gone."""
    whole = text[:MAX_ANSWER].encode("utf-8", "replace").decode()
    return "".join(
        character if character.isprintable() or character == "\n" else " " if character.isspace() else ""
        for character in whole.replace("\r\n", "\n")
    )


def find_texts(answer: str, key: str, complete: bool = True) -> list[str]:
    """The list of texts in an answer: under `key` of a JSON object, any other JSON list, or bullets.

    Args:
        answer: what the model said.
        key: such as ``descriptions``.
        complete: False when the answer was cut off, so that a last bullet without a full stop is left out.
    """
    texts = _texts_in(find_json(answer), key)
    if not texts:
        texts = _bullets(_without_thoughts(answer))
        if texts and not complete and not texts[-1].endswith((".", "!", "?")):
            texts.pop()
    return [text for text in map(tidy, texts) if text]


def find_table(answer: str) -> dict[str, list[str]]:
    """Lists of texts by key, from a JSON object or from bullets ``- key: a, b``."""
    value = find_json(answer)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict):
        pairs = [bullet.split(":", 1) for bullet in _bullets(_without_thoughts(answer)) if ":" in bullet]
        value = dict(pairs)
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        value = inner  # {"attributes": {...}}
    table = {}
    for key, found in value.items():
        texts = found.split(",") if isinstance(found, str) else _texts_in(found, str(key))
        plain = re.sub(r"[^a-z]+", "_", str(key).lower()).strip("_")
        table[plain] = [text for text in map(tidy, texts) if text]
    return table


def find_json(answer: str) -> Any:
    """The first JSON object or list of texts, also inside a code fence, cut off, or with trailing commas; else None."""
    text = _without_thoughts(answer)
    for part in (*_FENCE.findall(text), text):
        starts = [match.start() for match in re.finditer(r"[{\[]", part)][:_MAX_STARTS]
        for start in starts:
            value = _value_at(part[start:])
            if isinstance(value, dict | list) and any(isinstance(item, str | list | dict) for item in value):
                return value
    return None


def tidy(text: str) -> str:
    """One line without bullets, headings (``Objects: …``), emphasis and quotes around it."""
    text = " ".join(text.translate(_PLAIN).replace("**", "").replace("__", "").split())
    text = _HEADING.sub("", _LEAD.sub("", text, count=1), count=1)
    while len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].strip()
    return text


def as_sentence(text: str) -> str:
    """With a capital and a full stop."""
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text.rstrip(",;:") + "."


def _without_thoughts(answer: str) -> str:
    """Reasoning models think aloud first; thoughts without an end are all there is."""
    return answer.rpartition("</think>")[2].partition("<think>")[0]


def _value_at(text: str) -> Any:
    """The JSON value that begins a text, or None."""
    decoder = json.JSONDecoder(strict=False)
    if (mended := _mended(text)) is None:
        return None
    for candidate in (mended, _TRAILING_COMMA.sub("", mended)):
        try:
            return decoder.decode(candidate)
        except ValueError:
            continue
    return None


def _mended(text: str) -> str | None:
    """A JSON text up to its end, or, if it was cut off, up to its last whole string or list, closed."""
    closers: list[str] = []
    whole: tuple[int, str] | None = None
    in_string = is_key = escaped = False
    last = ""
    for position, character in enumerate(text):
        if in_string:
            if escaped or character == "\\":
                escaped = not escaped
            elif character == '"':
                in_string = False
                if not is_key:
                    whole = (position + 1, "".join(reversed(closers)))
        elif character == '"':
            in_string, is_key = True, closers[-1] == "}" and last != ":"
        elif character in "{[":
            closers.append("}" if character == "{" else "]")
            if len(closers) > _MAX_DEPTH:
                return None
        elif character in "}]":
            if closers.pop() != character:
                return None
            whole = (position + 1, "".join(reversed(closers)))
            if not closers:
                break
        if not character.isspace():
            last = character
    return None if whole is None else text[: whole[0]] + whole[1]


def _texts_in(value: Any, key: str) -> list[str]:
    if isinstance(value, dict):
        by_name = {str(name).lower(): item for name, item in value.items()}
        if key in by_name:
            return _texts_in(by_name[key], key)
        items = list(value.values())
        if len(items) == 1 and isinstance(items[0], list | dict):
            return _texts_in(items[0], key)
        return [item for item in items if isinstance(item, str)]
    if isinstance(value, list):
        return [text for item in value for text in ([item] if isinstance(item, str) else _one_text(item))]
    return [value] if isinstance(value, str) else []


def _one_text(item: Any) -> list[str]:
    """The longest text of an object such as ``{"type": "scene", "sentence": "…"}``."""
    texts = [text for text in item.values() if isinstance(text, str)] if isinstance(item, dict) else []
    return [max(texts, key=len)] if texts else []


def _bullets(text: str) -> list[str]:
    items: list[str] = []
    for line in text.split("\n"):
        match = _BULLET.match(line)
        if match:
            items.append((match[1] or match[2]).strip())
        elif items and line[:1].isspace() and line.strip()[:1].isalnum():  # an indented line goes on
            items[-1] += " " + line.strip()
    return items
