"""Sections of the files that users write: strict about keys, and a misspelt key is answered with the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ConfigDict

from vidssl.errors import did_you_mean


class Section(BaseModel):
    """A part of a file: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def unknown_key(schema: type[Section], location: Sequence[int | str]) -> str:
    """One line on a key that is not there, with the nearest one and all that are.

    Args:
        schema: of the whole file.
        location: keys, and positions in lists, from the top of the file to the unknown key.
    """
    *outer, key = map(str, location)
    section = schema
    for part in outer:
        if not part.isdecimal():
            annotation = section.model_fields[part].annotation
            [section] = (kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    allowed = list(section.model_fields)
    where = ".".join((*outer, key))
    return f"{where}: unknown key{did_you_mean(key, allowed)} (allowed: {', '.join(allowed)})"


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
