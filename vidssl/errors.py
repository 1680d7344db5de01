"""Errors meant for the person who made the mistake: one line naming the thing, the value and what would be right."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VidsslError(ValueError):
    """A mistake in what the user gave (a path, a key, a checkpoint). The command line prints it and exits with 2."""


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """``; did you mean 'x'?`` for the closest allowed name, or an empty string when nothing is close."""
    close = get_close_matches(given, list(allowed), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
