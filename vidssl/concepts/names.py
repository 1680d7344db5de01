"""Class names: one normaliser for prompts and for joining, so that two data sets agree on what is the same action.

``HandstandPushups``, ``handstand_pushups`` and ``"Handstand pushups"`` are one name: `display_name` is how it stands in
a prompt, `join_key` what is compared, `slug` what identifies it in a file. `names_label` tells whether a sentence holds it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

# Capitals that do not mark words: UCF101 spells its folder HandstandPushups and its files v_HandStandPushups_….
ODDITIES = {
    "hand stand pushups": "handstand pushups",
    "hand stand push ups": "handstand pushups",
    "handstand push ups": "handstand pushups",
    "yoyo": "yo yo",
    "taichi": "tai chi",
    "clean & jerk": "clean and jerk",
}
# Words of a label that say nothing of the action.
FUNCTION_WORDS = {
    "a", "an", "the", "and", "or", "not", "so", "but", "it", "its", "it's", "that", "is", "doesn't",
    "can't", "your", "of", "on", "in", "at", "to", "with", "for", "from", "by", "into", "onto", "over",
    "under", "off", "up", "down", "out", "person", "person's", "people", "something", "someone", "somebody",
    "human", "sport", "game", "art", "exercise",
}  # fmt: skip
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼ`´"), "'")
_QUOTES = dict.fromkeys(map(ord, '"“”„«»'))
_DASHES = dict.fromkeys(map(ord, "_-‐‑‒–—"), " ")
_SUFFIXES = ("ing", "ers", "ies", "er", "es", "ed", "s")


def display_name(name: str) -> str:
    """The name as it stands in a prompt: ``ApplyEyeMakeup`` and ``apply_eye_makeup`` -> ``apply eye makeup``.

    Unicode NFKC, CamelCase split, ``_`` and dashes to blanks, quotes and surplus blanks gone, lower-case; apostrophes
    and brackets stay.
    """
    text = unicodedata.normalize("NFKC", name).translate(_APOSTROPHES).translate(_QUOTES)
    text = _CAMEL.sub(" ", text).translate(_DASHES).lower()
    text = _unquoted(" ".join(unicodedata.normalize("NFKC", text).split()))
    return ODDITIES.get(text, text)


def _unquoted(text: str) -> str:
    while len(text) > 1 and text[0] == text[-1] == "'":
        text = text[1:-1].strip()
    return text


def join_key(name: str) -> str:
    """What two spellings of one name have in common: `display_name` without punctuation, apostrophes kept."""
    words = re.sub(r"[^\w\s']|_", " ", display_name(name))
    key = _unquoted(" ".join(words.split()))  # again: punctuation may have stood before the quotes
    return ODDITIES.get(key, key)


def compact_key(name: str) -> str:
    """Letters and digits only: also equates ``push up`` with ``pushup``, which are two classes of two data sets.

    For matching within one list, never for telling whether two concepts are the same.
    """
    return "".join(character for character in join_key(name) if character.isalnum())


def slug(name: str) -> str:
    """Identifier of a concept: ``massaging person's head`` -> ``massaging-persons-head``."""
    return "-".join(join_key(name).replace("'", "").split())


def match_names(
    names: Sequence[str], known: Sequence[str], aliases: Sequence[Iterable[str]] = ()
) -> list[int | None]:
    """Positions in `known` of the same classes, None where there is none.

    `join_key` decides; where it finds nothing, `compact_key` does if exactly one name of `known` has it.

    Args:
        names: what to look for.
        known: what there is.
        aliases: other names of each of `known`, for what is found by no name; one that two share names neither.
    """
    owners: dict[str, set[int]] = {}
    for position, others in enumerate(aliases):
        for alias in others:
            owners.setdefault(join_key(alias), set()).add(position)
    by_name = _finder([(name, position) for position, name in enumerate(known)])
    by_alias = _finder([(alias, position) for alias, (position, *more) in owners.items() if not more])
    found = [by_name(name) for name in names]
    return [by_alias(name) if own is None else own for name, own in zip(names, found, strict=True)]


def _finder(known: Sequence[tuple[str, int]]) -> Callable[[str], int | None]:
    exact: dict[str, int] = {}
    compact: dict[str, list[int]] = {}
    for name, position in known:
        exact.setdefault(join_key(name), position)
        compact.setdefault(compact_key(name), []).append(position)

    def find(name: str) -> int | None:
        candidates = compact.get(compact_key(name), [])
        return exact.get(join_key(name), candidates[0] if len(candidates) == 1 else None)

    return find


def words(text: str) -> list[str]:
    """Lower-case words and numbers; CamelCase, dashes and underscores divide, apostrophes do not."""
    return re.findall(r"[a-z0-9']+", display_name(text))


def stem(word: str) -> str:
    """A word without its inflection: ``juggling``, ``juggles`` and ``juggle`` have the same.

    Crude on purpose: it may take two words for one (``pole`` and ``poling``), which costs a rewording, but it sees
    ``cutting`` in ``cut`` and ``carries`` in ``carry``.
    """
    word = word.replace("'s", "")
    ending = next((end for end in _SUFFIXES if word.endswith(end) and len(word) - len(end) >= 3), "")
    word = word.removesuffix(ending)
    if len(word) > 3:
        word = word.rstrip("eiy")
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] else word


def stems(text: str) -> set[str]:
    """Stems of all words of a text."""
    return {stem(word) for word in words(text)}


def label_stems(name: str) -> set[str]:
    """Stems of the content words of a label; what stands in brackets is a remark and does not count."""
    outside = re.sub(r"\(.*?\)", " ", name)
    content = {stem(word) for word in words(outside) if word not in FUNCTION_WORDS}
    return content or stems(outside) or stems(name)


def names_label(sentence: str, name: str) -> bool:
    """Whether all content words of the label occur in the sentence, in any inflection."""
    label = label_stems(name)
    return bool(label) and label <= stems(sentence)


def word_runs(text: str, length: int = 5) -> set[str]:
    """All runs of so many words."""
    found = words(text)
    return {" ".join(found[start : start + length]) for start in range(len(found) - length + 1)}
