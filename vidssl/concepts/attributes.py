"""Shared words of actions: which motions, objects, body parts, scenes and phases several concepts have in common.

Attributes are written as phrases, most of which one action alone has ("descending backward in short hops"). What can be
shared is a phrase as a whole or its head, the word that says what it is: the first word in -ing of a motion or phase
("descending"), the last noun of the others ("leather ball" -> "ball"). Both become attributes, spellings of one word are one
attribute (plurals; for motions and phases any inflection). An attribute that fewer than `min_count` concepts have is dropped,
since it would be a second name of one action, and so is one that all have, since it tells none apart. A phrase that exactly
the concepts of its head have stands for the head too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from vidssl.concepts.names import stem, words
from vidssl.concepts.prompts import Attributes, Concept
from vidssl.errors import VidsslError, check_choice

KINDS = tuple(Attributes.model_fields)
_ACTIVE = ("motion", "phases")  # kinds whose phrases start with what is done
MIN_COUNT = 2
_ARTICLES = {"a", "an", "the"}
# A noun phrase ends before one of these ("crowd in the street").
_PREPOSITIONS = {
    "of", "in", "on", "at", "with", "for", "from", "to", "by", "inside", "outside", "over", "under", "near", "between",
    "behind", "beside", "around", "into", "onto", "through", "across", "against", "along", "above", "below", "and", "or",
}  # fmt: skip
_IRREGULAR = {
    "feet": "foot", "teeth": "tooth", "knives": "knife", "leaves": "leaf", "loaves": "loaf", "shelves": "shelf",
    "calves": "calf", "halves": "half", "scarves": "scarf", "hooves": "hoof", "children": "child", "people": "person",
    "men": "man", "women": "woman", "mice": "mouse", "geese": "goose", "dice": "die",
}  # fmt: skip
_NOT_PLURAL = {"scissors", "trousers", "glasses", "goggles", "binoculars", "stairs", "shorts", "clothes"}


class SharedWords(NamedTuple):
    """The attributes of one kind that several concepts have.

    Attributes:
        kind: one of KINDS.
        words: as they are written most often, or shortest; by number of concepts, then alphabetically. Their place is their column.
        counts: concepts of each.
        columns: for each concept, in order, the columns of its attributes, ascending.
        dropped: attributes that fewer than `min_count` concepts have, or all.
    """

    kind: str
    words: tuple[str, ...]
    counts: tuple[int, ...]
    columns: tuple[tuple[int, ...], ...]
    dropped: int


def shared_words(concepts: Sequence[Concept], kind: str, min_count: int = MIN_COUNT) -> SharedWords:
    """The vocabulary of one kind and what each concept has of it.

    Args:
        concepts: K of them.
        kind: one of KINDS.
        min_count: concepts that an attribute needs to be kept, at least 1.

    Raises:
        VidsslError: for another kind or a count below 1.
    """
    check_choice("attributes", kind, KINDS)
    if min_count < 1:
        raise VidsslError(f"attribute_min_count {min_count}: must be 1 or more")
    holders: dict[tuple[str, ...], set[int]] = defaultdict(set)
    spellings: dict[tuple[str, ...], Counter[str]] = defaultdict(Counter)
    head_of: dict[tuple[str, ...], tuple[str, ...]] = {}
    for row, concept in enumerate(concepts):
        for phrase in getattr(concept.attributes, kind, ()):
            head = head_word(phrase, kind)
            if head is None:
                continue
            whole = " ".join(words(phrase))
            for text in {whole, head}:
                key = _key(text, kind)
                holders[key].add(row)
                spellings[key][text] += 1
            head_of[_key(whole, kind)] = _key(head, kind)
    # A phrase whose head no other concept has says more than the head alone.
    same = {head for key, head in head_of.items() if key != head and holders[key] == holders[head]}
    common = [
        key for key, rows in holders.items() if key not in same and min_count <= len(rows) < len(concepts)
    ]
    spelt = {
        key: min(spellings[key], key=lambda text: (-spellings[key][text], len(text), text)) for key in common
    }
    common.sort(key=lambda key: (-len(holders[key]), spelt[key], key))
    columns = [
        tuple(column for column, key in enumerate(common) if row in holders[key])
        for row in range(len(concepts))
    ]
    return SharedWords(
        kind=kind,
        words=tuple(spelt[key] for key in common),
        counts=tuple(len(holders[key]) for key in common),
        columns=tuple(columns),
        dropped=len(holders) - len(same) - len(common),
    )


def head_word(phrase: str, kind: str) -> str | None:
    """The word of a phrase that says what it is; None where there are only articles.

    Of a motion or phase the first word in -ing, or else as for nouns: the last word before a preposition, leading
    prepositions left out.
    """
    left = [word for word in words(phrase) if word not in _ARTICLES]
    active = [word for word in left if kind in _ACTIVE and word.endswith("ing") and len(word) > 4]
    if active:
        return active[0]
    while len(left) > 1 and left[0] in _PREPOSITIONS:
        left = left[1:]
    end = next((place for place, word in enumerate(left) if place and word in _PREPOSITIONS), len(left))
    return left[end - 1] if left else None


def singular(word: str) -> str:
    """A noun without its plural: ``matches`` -> ``match``, ``cups`` -> ``cup``, ``feet`` -> ``foot``."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _NOT_PLURAL or len(word) < 4 or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-2] if word.endswith(("ches", "shes", "sses", "xes")) else word[:-1]


def _key(phrase: str, kind: str) -> tuple[str, ...]:
    """What the spellings of one phrase have in common."""
    plain = stem if kind in _ACTIVE else singular
    return tuple(plain(word) for word in words(phrase) if word not in _ARTICLES)
