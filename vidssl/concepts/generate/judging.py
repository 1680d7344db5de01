"""What an answer says, and whether it is good enough to stand in a concept file.

Answers are data of unknown origin: cut to a size, read by a JSON parser, never executed. What the rules of the concept
file say of the words is theirs; here stands what only a language model does. Faults are named in words for their author.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from itertools import combinations
from typing import Any

from pydantic_core import from_json

from vidssl.concepts.generate.asking import Task
from vidssl.concepts.names import display_name, join_key, stems
from vidssl.concepts.prompts import Attributes, Concept, ConceptFile, Problem
from vidssl.concepts.rules import check_concepts

MIN_WORDS = 5  # of a sentence; shorter ones are headings and remarks
ALIKE = 0.8  # share of common stems from which two sentences say the same
MARKUP = set("{}[]<>|\\*")
MAX_PHRASES, MAX_PHRASE_WORDS, MAX_ALIASES, MAX_ALIAS_WORDS = 5, 8, 3, 5
# The list of the instruction, repeated in front of a sentence: "1) ", "Objects: ".
_LEAD = re.compile(r"(?:[-*•]\s+|\(?\d{1,2}[.):]\s+)?(?:[A-Z][A-Za-z ,/&-]{2,40}:\s+(?=[A-Z]))?")


class Judge:
    """Judges answers one after the other: the sentences of those that are good stand against later ones.

    Args:
        names: of all concepts, none of which may become another's alias.
        count: sentences that a concept is to have.
    """

    def __init__(self, names: Iterable[str], count: int) -> None:
        self._names = {join_key(name) for name in names}
        self._count = count
        self._taken: dict[str, str] = {}  # sentence -> name of its concept

    def judge(self, concept: Concept, task: Task, answer: str) -> tuple[dict[str, Any], list[str]]:
        """The fields of the concept that an answer fills, and what is wrong with it; one of the two is empty."""
        if not answer.strip():
            return {}, ["it is empty"]
        judge = self._attributes if task == "attributes" else self._sentences
        words, faults = judge(concept, read_texts(answer))
        return ({}, faults) if faults else (words, [])

    def _sentences(self, concept: Concept, texts: dict[str, list[str]]) -> tuple[dict[str, Any], list[str]]:
        sentences = tuple(as_sentence(text) for text in texts.get("descriptions", [])[: self._count])
        if not sentences:
            return {}, ["it holds no JSON list of sentences under the key descriptions"]
        faults = []
        if len(sentences) < self._count:
            faults.append(f"it has {len(sentences)} sentences instead of {self._count}")
        for problem in _problems(concept, "description-", descriptions=sentences):
            if problem.rule == "description-names-label":
                faults.append(f"{problem.message} (leave out the words of {concept.name!r} in any form)")
            elif problem.rule != "description-few":
                faults.append(problem.message)
        keys = [sentence.casefold().rstrip(".") for sentence in sentences]
        for position, (sentence, key) in enumerate(zip(sentences, keys, strict=True), start=1):
            if key in self._taken:
                faults.append(f"description {position} describes {self._taken[key]!r} already")
            if len(sentence.split()) < MIN_WORDS or MARKUP.intersection(sentence):
                faults.append(f"description {position} is no full sentence: {sentence[:60]!r}")
        for (first, these), (second, those) in combinations(enumerate(map(stems, sentences), start=1), 2):
            if len(these & those) >= ALIKE * len(these | those) > 0:
                faults.append(f"descriptions {first} and {second} say the same")
        if not faults:
            self._taken |= dict.fromkeys(keys, concept.name)
        return {"descriptions": sentences}, faults

    def _attributes(self, concept: Concept, texts: dict[str, list[str]]) -> tuple[dict[str, Any], list[str]]:
        missing = [key for key in Attributes.model_fields if key not in texts]
        if missing:
            return {}, [f"it holds no JSON object with the keys {', '.join(missing)}"]
        lists = {
            key: tuple(dict.fromkeys(text.lower().rstrip(".") for text in texts[key]))[:MAX_PHRASES]
            for key in Attributes.model_fields
        }
        attributes = Attributes(**lists)
        faults = [problem.message for problem in _problems(concept, "attributes-", attributes=attributes)]
        for key, phrases in attributes:
            for phrase in phrases:
                if len(phrase.split()) > MAX_PHRASE_WORDS:
                    faults.append(
                        f"attributes.{key} holds more than {MAX_PHRASE_WORDS} words: {phrase[:60]!r}"
                    )
        if len(attributes.phases) == 1:
            faults.append("attributes.phases has 1 step; write 2 to 4")
        aliases = {join_key(alias): alias for alias in concept.aliases}
        most = max(MAX_ALIASES, len(aliases))
        for synonym in map(display_name, texts.get("synonyms", [])):
            key = join_key(synonym)
            if key and key not in self._names and len(key.split()) <= MAX_ALIAS_WORDS:
                aliases.setdefault(key, synonym)
        return {"attributes": attributes, "aliases": tuple(aliases.values())[:most]}, faults


def read_texts(answer: str) -> dict[str, list[str]]:
    """Lists of texts by key from the first JSON object in an answer; of one that was cut off, what is whole."""
    text = answer.rpartition("</think>")[2].encode("utf-8", "replace")  # reasoning models think aloud first
    for brace in re.finditer(b"{", text):
        with suppress(ValueError):
            found = from_json(text[brace.start() :], allow_partial=True)
            return {key: list(map(_line, value)) for key, value in found.items() if isinstance(value, list)}
    return {}


def as_sentence(text: str) -> str:
    """With a capital and a full stop, without a bullet or a heading (``Objects: …``)."""
    text = _LEAD.sub("", text, count=1)
    text = text[:1].upper() + text[1:]
    return text if text.endswith((".", "!", "?")) else text.rstrip(",;:") + "."


def _problems(concept: Concept, rules: str, **words: Any) -> list[Problem]:
    """What the rules of that name say of new words."""
    alone = ConceptFile(name="answer", concepts=(concept.model_copy(update=words),))
    return [problem for problem in check_concepts(alone) if problem.rule.startswith(rules)]


def _line(value: Any) -> str:
    return " ".join(value.split()) if isinstance(value, str) else ""
