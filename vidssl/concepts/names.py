"""Class names: one normaliser for prompts and for joining, so that two data sets agree on what is the same action.

``HandstandPushups``, ``handstand_pushups`` and ``"Handstand pushups"`` are one name: `display_name` is how it stands in
a prompt, `join_key` what is compared, `slug` what identifies it in a file.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from vidssl.errors import VidsslError, did_you_mean

# Capitals that do not mark words: UCF101 spells its folder HandstandPushups and its files v_HandStandPushups_….
ODDITIES = {
    "hand stand pushups": "handstand pushups",
    "hand stand push ups": "handstand pushups",
    "handstand push ups": "handstand pushups",
    "yoyo": "yo yo",
    "taichi": "tai chi",
    "clean & jerk": "clean and jerk",
}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_APOSTROPHES = dict.fromkeys(map(ord, "’‘ʼ`´"), "'")
_QUOTES = dict.fromkeys(map(ord, '"“”„«»'))
_DASHES = dict.fromkeys(map(ord, "_-‐‑‒–—"), " ")


def display_name(name: str) -> str:
    """The name as it stands in a prompt: ``ApplyEyeMakeup`` and ``apply_eye_makeup`` -> ``apply eye makeup``.

    Unicode NFKC, CamelCase split, ``_`` and dashes to blanks, quotes and surplus blanks gone, lower-case; apostrophes
    and brackets stay.
    """
    text = unicodedata.normalize("NFKC", name).translate(_APOSTROPHES).translate(_QUOTES)
    text = _CAMEL.sub(" ", text).translate(_DASHES).lower()
    text = " ".join(unicodedata.normalize("NFKC", text).split())
    text = _unquoted(text)
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


def match_names(names: Iterable[str], known: Sequence[str]) -> list[int | None]:
    """Positions in `known` of the same classes, None where there is none.

    `join_key` decides; where it finds nothing, `compact_key` does if exactly one name of `known` has it.
    """
    exact: dict[str, int] = {}
    compact: dict[str, list[int]] = {}
    for position, name in enumerate(known):
        exact.setdefault(join_key(name), position)
        compact.setdefault(compact_key(name), []).append(position)
    found: list[int | None] = []
    for name in names:
        candidates = compact.get(compact_key(name), [])
        found.append(exact.get(join_key(name), candidates[0] if len(candidates) == 1 else None))
    return found


def positions_of(names: Sequence[str], known: Sequence[str], source: str) -> list[int]:
    """`match_names` that insists.

    Raises:
        VidsslError: naming the first names that are not in `known`.
    """
    found = match_names(names, known)
    missing = [name for name, position in zip(names, found, strict=True) if position is None]
    if missing:
        raise VidsslError(
            f"{source}: {len(missing)} of {len(names)} names are unknown: {', '.join(missing[:5])}"
            f"{', …' if len(missing) > 5 else ''}{did_you_mean(display_name(missing[0]), known)}"
        )
    return [position for position in found if position is not None]
