"""Errors meant for the person who made the mistake: one line naming the thing, the value and what would be right."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

# What is said of a value that is none of the allowed ones: of an option, and of something that is named in words.
OPTION = "{name}={value!r}: unknown{guess} (allowed: {allowed})"
NAMED = "{name} {value!r}: unknown{guess} ({allowed})"


class VidsslError(ValueError):
    """A mistake in what the user gave (a path, a key, a checkpoint). The command line prints it and exits with 2."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest allowed name, or an empty string when nothing is close."""
    close = get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""


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
