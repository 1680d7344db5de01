"""Errors meant for the person who made the mistake: one line naming the thing, the value and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import Any

# What is said of a value that is none of the allowed ones: of an option, and of something that is named in words.
OPTION = "{name}={value!r}: unknown{guess} (allowed: {allowed})"
NAMED = "{name} {value!r}: unknown{guess} ({allowed})"

# What a value of a recipe may be, in words; OR_NULL behind them allows None too.
SWITCH, WORD, NUMBER, WHOLE = "true or false", "a word", "a number", "a whole number"
COUNT, SIZES = "a whole number of at least 1", "a list of whole numbers of at least 1"
OR_NULL = ", or null"


class VidsslError(ValueError):
    """A mistake in what the user gave (a path, a key, a checkpoint): one line, or one for each of several mistakes.

    The command line prints it and exits with 2.
    """


class TooFewRows(VidsslError):
    """A loss that needs more clips in a step than there were."""


class Stopped(Exception):
    """A run was told to stop, and did so in a way that it can go on from. The command line exits with 75."""


def counted(number: int, noun: str) -> str:
    """``1 video``, ``2 videos``, ``2 classes``.

    Args:
        number: of what is counted. noun: what one of them is called.
    """
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number} {noun}{ending}"


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest allowed name, or an empty string when nothing is close."""
    return "".join(f"; did you mean {name!r}?" for name in nearest(given, allowed))


def nearest(given: str, allowed: Iterable[str]) -> list[str]:
    """The closest allowed name, if any is close."""
    return get_close_matches(given, list(allowed), n=1, cutoff=0.6)


def check_choice(name: str, value: object, allowed: Collection[str], message: str = OPTION) -> None:
    """One line that names the option, its value, the nearest allowed value and all of them.

    Args:
        name: of the option, or whatever else `message` begins with.
        value: what was given.
        allowed: what may be given.
        message: a format of name, value, guess (the nearest allowed value, or nothing) and allowed.

    Raises:
        VidsslError: if `value` is not in `allowed`.
    """
    if value not in allowed:
        guess = did_you_mean(str(value), allowed)
        raise VidsslError(message.format(name=name, value=value, guess=guess, allowed=", ".join(allowed)))


def check_value(name: str, value: object, fits: bool, allowed: str) -> None:
    """``name=value: must be …``, unless it fits.

    Args:
        name, value: of an option.
        fits: whether the value is one of those allowed.
        allowed: these, in words that go on after "must be".

    Raises:
        VidsslError: if it does not fit.
    """
    if not fits:
        raise VidsslError(f"{name}={value}: must be {allowed}")


def check_kind(name: str, value: object, kind: str) -> None:
    """The same for a value of another kind than an option takes.

    Args:
        name, value: of an option.
        kind: SWITCH, WORD, NUMBER, WHOLE, COUNT or SIZES, with OR_NULL behind it where None is allowed.

    Raises:
        VidsslError: if the value is of another kind.
    """
    fits = _KINDS[kind.removesuffix(OR_NULL)](value) or (value is None and kind.endswith(OR_NULL))
    check_value(name, repr(value), fits, kind)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> bool:
    return _is_whole(value) and value >= 1


_KINDS: dict[str, Callable[[Any], bool]] = {
    SWITCH: lambda value: isinstance(value, bool),
    WORD: lambda value: isinstance(value, str),
    NUMBER: lambda value: _is_whole(value) or isinstance(value, float),
    WHOLE: _is_whole,
    COUNT: _is_count,
    SIZES: lambda value: isinstance(value, list | tuple) and all(map(_is_count, value)),
}
