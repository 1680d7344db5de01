"""What an answer says, and whether it is good enough to stand in a concept file.

Answers are data of unknown origin: cut to a size, read by a JSON parser and by regular expressions, never executed. JSON
is taken where it can be found, whole or cut off, bullets where it cannot. Faults are named in words for their author.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from itertools import combinations, islice
from typing import Any

from pydantic_core import from_json

from vidssl.concepts.generate.asking import Answer, Task
from vidssl.concepts.names import display_name, join_key, stems
from vidssl.concepts.prompts import Attributes, Concept, ConceptFile, Problem
from vidssl.concepts.rules import check_concepts

MAX_ANSWER = 32_768  # characters; the longest good answer has about two thousand
MIN_WORDS = 5  # of a sentence; shorter ones are headings and remarks
MIN_LETTERS = 0.7  # share of a sentence's characters
ALIKE = 0.8  # share of common stems from which two sentences say the same
MAX_PHRASES, MAX_PHRASE_WORDS, MIN_PHASES, MAX_ALIASES = 5, 8, 2, 3
_MAX_STARTS = 64  # places at which a JSON value is looked for
_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*?)(?:```|\Z)", re.DOTALL)
_TRAILING_COMMA = re.compile(r",(?=\s*[}\]])")
_BULLET = re.compile(r"\s*(?:[-*•–+]|\(?\d{1,2}[.):])\s+(\S.*)|\s*\"(.+)\",?\s*$")
_LEAD = re.compile(r"(?:[-*•–+]|\(?\d{1,2}[.):])\s+")
_HEADING = re.compile(r"[A-Z][A-Za-z ,/&-]{2,40}:\s+(?=[A-Z])")
_PLAIN = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "`": None})


class Judge:
    """Judges answers one after the other: the sentences of those that are good stand against later ones.

    Args:
        names: of all concepts, none of which may become another's alias.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {join_key(name) for name in names}
        self._taken: dict[str, str] = {}  # sentence -> name of its concept

    def judge(
        self, concept: Concept, task: Task, count: int, answer: Answer
    ) -> tuple[dict[str, Any], list[str]]:
        """The fields of the concept that an answer fills, and what is wrong with it, if anything."""
        if not answer.text.strip():
            return {}, ["it is empty"]
        if task == "attributes":
            return judge_attributes(answer, concept, self._names)
        found, faults = judge_descriptions(answer, concept, count, self._taken)
        if not faults:
            self._taken.update({sentence_key(text): concept.name for text in found["descriptions"]})
        return found, faults


def judge_descriptions(
    answer: Answer, concept: Concept, count: int, taken: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """The first sentences of an answer, and what keeps them from describing a concept.

    Args:
        answer: to be read.
        concept: whose name the second and later sentences must not hold.
        count: how many sentences were asked for.
        taken: `sentence_key` of sentences of other concepts -> name of the concept.

    Returns:
        The fields of the concept that the answer fills, and the breaches of the rules of the concept file and of a few
        for language models.
    """
    texts = find_texts(answer.text, "descriptions", complete=answer.finish != "length")
    sentences = tuple(as_sentence(text) for text in texts[:count])
    if not sentences:
        return {}, ["it holds no JSON list of sentences under the key descriptions"]
    faults = [f"it has {len(sentences)} sentences instead of {count}"] if len(sentences) < count else []
    for problem in _problems(concept, "description-", descriptions=sentences):
        if problem.rule == "description-names-label":
            faults.append(f"{problem.message} (leave out the words of {concept.name!r} in any form)")
        elif problem.rule != "description-few":
            faults.append(problem.message)
    for position, sentence in enumerate(sentences, start=1):
        if (other := taken.get(sentence_key(sentence))) is not None:
            faults.append(f"description {position} describes {other!r} already")
        letters = sum(character.isalpha() or character.isspace() for character in sentence)
        if len(sentence.split()) < MIN_WORDS or letters < MIN_LETTERS * len(sentence):
            faults.append(f"description {position} is no full sentence: {_short(sentence)}")
        elif set(sentence) & set("{}[]<>|\\"):
            faults.append(f"description {position} holds markup: {_short(sentence)}")
    for (first, these), (second, those) in combinations(enumerate(map(stems, sentences), start=1), 2):
        if these | those and len(these & those) >= ALIKE * len(these | those):
            faults.append(f"descriptions {first} and {second} say the same")
    return {"descriptions": sentences}, list(dict.fromkeys(faults))


def sentence_key(sentence: str) -> str:
    """What two spellings of one sentence have in common."""
    return " ".join(sentence.casefold().split()).rstrip(".")


def judge_attributes(
    answer: Answer, concept: Concept, names: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """The attributes in an answer with the synonyms that may become aliases, and what keeps them from standing in a file.

    Args:
        answer: to be read.
        concept: whose attributes they are.
        names: `join_key`s of all concepts, none of which may become an alias.
    """
    table, keys = find_table(answer.text), Attributes.model_fields
    missing = [key for key in keys if key not in table]
    if len(missing) == len(keys):
        return {}, [f"it holds no JSON object with the keys {', '.join(missing)}"]
    phrases = {
        key: tuple(dict.fromkeys(text.lower().rstrip(".") for text in table.get(key, ())))[:MAX_PHRASES]
        for key in keys
    }
    attributes = Attributes(**phrases)
    faults = [f"the key {key} is missing" for key in missing]
    for problem in _problems(concept, "attributes-", attributes=attributes):
        if not any(key in problem.message for key in missing):
            faults.append(problem.message)
    for field, phrase in [(field, phrase) for field, found in phrases.items() for phrase in found]:
        if len(phrase.split()) > MAX_PHRASE_WORDS:
            faults.append(f"attributes.{field} holds more than {MAX_PHRASE_WORDS} words: {_short(phrase)}")
        if not any(character.isalpha() for character in phrase):
            faults.append(f"attributes.{field} holds no words: {_short(phrase)}")
    if 0 < len(attributes.phases) < MIN_PHASES:
        faults.append(f"attributes.phases has 1 step; write {MIN_PHASES} to 4")
    aliases = {join_key(alias): alias for alias in concept.aliases}
    for synonym in map(display_name, table.get("synonyms", ())):
        key = join_key(synonym)
        if (
            key
            and key not in names
            and key not in aliases
            and len(aliases) < MAX_ALIASES
            and len(key.split()) <= 5
        ):
            aliases[key] = synonym
    return {"attributes": attributes, "aliases": tuple(aliases.values())}, faults


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
    texts = _texts_in(find_json(answer), key) or _bullets(answer, complete)
    return [text for text in map(tidy, texts) if text]


def find_table(answer: str) -> dict[str, list[str]]:
    """Lists of texts by key, from a JSON object or from bullets ``- key: a, b``."""
    value = find_json(answer)
    if isinstance(value, list):
        value = next((item for item in value if isinstance(item, dict)), None)
    if not isinstance(value, dict):
        value = dict(bullet.split(":", 1) for bullet in _bullets(answer) if ":" in bullet)
    if len(value) == 1 and isinstance(inner := next(iter(value.values())), dict):
        value = inner  # {"attributes": {...}}
    table = {}
    for key, found in value.items():
        texts = found.split(",") if isinstance(found, str) else _texts_in(found, key)
        plain = re.sub(r"[^a-z]+", "_", key.lower()).strip("_")
        table[plain] = [text for text in map(tidy, texts) if text]
    return table


def find_json(answer: str) -> Any:
    """The first JSON object or list of texts, also inside a code fence, cut off, or with trailing commas; else None."""
    text = _without_thoughts(answer)
    for part in (*_FENCE.findall(text), text):
        plain = _TRAILING_COMMA.sub("", part.replace("\n", " "))  # JSON allows neither in a text
        for start in islice(re.finditer(r"[{\[]", plain), _MAX_STARTS):
            with suppress(ValueError):
                value = _json_at(plain[start.start() :].encode("utf-8", "replace"))
                if any(isinstance(item, str | list | dict) for item in value):
                    return value
    return None


def _json_at(text: bytes) -> Any:
    """The JSON value that begins a text; of one that was cut off, what is whole."""
    try:
        return from_json(text)
    except ValueError as error:
        if not str(error).startswith(("EOF", "trailing characters")):
            raise
        value = from_json(text, allow_partial=True)
        return _ended(value) if str(error).startswith("EOF") else value


def _ended(value: Any) -> Any:
    """Without a last list or object that had only begun."""
    if isinstance(value, dict | list) and value:
        place = next(reversed(value)) if isinstance(value, dict) else -1
        value[place] = _ended(value[place])
        if value[place] in ([], {}):
            del value[place]
    return value


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


def _texts_in(value: Any, key: str) -> list[str]:
    """The texts under a key, or all; of an object in a list, such as ``{"type": …, "sentence": …}``, the longest."""
    while isinstance(value, dict):
        by_name = {name.lower(): item for name, item in value.items()}
        inner = next(iter(value.values())) if len(value) == 1 else list(value.values())
        value = by_name.get(key, inner)
    texts = []
    for item in value if isinstance(value, list) else [value]:
        parts = item.values() if isinstance(item, dict) else [item]
        texts += sorted((part for part in parts if isinstance(part, str)), key=len, reverse=True)[:1]
    return texts


def _bullets(answer: str, complete: bool = True) -> list[str]:
    items: list[str] = []
    for line in _without_thoughts(answer).split("\n"):
        match = _BULLET.match(line)
        if match:
            items.append((match[1] or match[2]).strip())
        elif items and line[:1].isspace() and line.strip()[:1].isalnum():  # an indented line goes on
            items[-1] += " " + line.strip()
    whole = complete or not items or items[-1].endswith((".", "!", "?"))
    return items if whole else items[:-1]


def _problems(concept: Concept, rules: str, **words: Any) -> list[Problem]:
    """What the rules of that name say of new words."""
    alone = ConceptFile(name="answer", concepts=(concept.model_copy(update=words),))
    return [problem for problem in check_concepts(alone) if problem.rule.startswith(rules)]


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:59] + "…")
