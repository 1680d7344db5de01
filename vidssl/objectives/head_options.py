"""The options of a recipe's objective that belong to its head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vidssl.errors import VidsslError

SIZES, SWITCHES, COUNTS = (
    ("projector", "predictor"),
    ("last_norm", "last_bias"),
    ("prototypes", "pool_frames"),
)
HEAD_OPTIONS = (*SIZES, "norm", *SWITCHES, *COUNTS)


def check_head_options(name: str, options: Mapping[str, Any]) -> None:
    """Kinds and ranges; the head itself says what does not go together.

    Args:
        name: of the objective, for the message.
        options: any of HEAD_OPTIONS.

    Raises:
        VidsslError: naming the option and what it may be.
    """
    for key, value in options.items():
        if key in SIZES:
            fits = isinstance(value, list | tuple) and all(map(_is_count, value))
            kind = "a list of whole numbers of at least 1"
            if key == "predictor":
                fits, kind = fits or value is None, f"{kind}, or null"
        elif key in SWITCHES:
            fits, kind = isinstance(value, bool), "true or false"
        elif key == "norm":
            fits, kind = isinstance(value, str), "a word"
        else:
            fits, kind = _is_count(value), "a whole number of at least 1"
            if key == "prototypes":
                fits, kind = fits or value is None, f"{kind}, or null"
        if not fits:
            raise VidsslError(f"objective.{name}.{key}={value!r}: must be {kind}")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
