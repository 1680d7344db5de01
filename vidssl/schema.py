"""Sections of the files that users write: strict about keys, and a misspelt key is answered with the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from vidssl.errors import did_you_mean, nearest


class Section(BaseModel):
    """A part of a file: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def unknown_key(schema: type[Section], location: Sequence[int | str]) -> str:
    """One line on a key that is not there, with the nearest one and all that are.

    Args:
        schema: of the whole file.
        location: keys, and positions in lists, from the top of the file to the unknown key.
    """
    allowed = _allowed(schema, location)
    where, guess = ".".join(map(str, location)), did_you_mean(str(location[-1]), allowed)
    return f"{where}: unknown key{guess} (allowed: {', '.join(allowed)})"


def mistakes(schema: type[Section], error: ValidationError) -> list[ErrorDetails]:
    """All that is wrong with a file: unknown keys first, and what a misspelt key was meant to be is not missing as well.

    Args:
        schema: of the whole file.
        error: of its validation.
    """
    details = error.errors(include_url=False)
    unknown = [detail for detail in details if detail["type"] == "extra_forbidden"]
    meant = {
        (*detail["loc"][:-1], name)
        for detail in unknown
        for name in nearest(str(detail["loc"][-1]), _allowed(schema, detail["loc"]))
    }
    others = [detail for detail in details if detail["type"] != "extra_forbidden"]
    return unknown + [
        detail for detail in others if detail["type"] != "missing" or detail["loc"] not in meant
    ]


def _allowed(schema: type[Section], location: Sequence[int | str]) -> list[str]:
    """The keys that may stand where the last one of `location` does."""
    section = schema
    for part in map(str, location[:-1]):
        if not part.isdecimal():
            annotation = section.model_fields[part].annotation
            [section] = (kind for kind in (annotation, *get_args(annotation)) if _is_section(kind))
    return list(section.model_fields)


def _is_section(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Section)
