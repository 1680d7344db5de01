"""Sections of the files that users write: strict about keys, and a misspelt key is answered with the right one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails

from vidssl.errors import NUMBER, SWITCH, WHOLE, WORD, did_you_mean, nearest

# What a value must be, by pydantic's name of the mistake; the rest is said in pydantic's words.
_MUST_BE = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), WHOLE),
    **dict.fromkeys(("float_type", "float_parsing"), NUMBER),
    **dict.fromkeys(("bool_type", "bool_parsing"), SWITCH),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dict_type", "model_type"), "a section of `key: value` lines"),
    "string_type": WORD,
    "finite_number": "finite",
    "greater_than": "above {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "below {lt:g}",
    "less_than_equal": "at most {le:g}",
    "too_short": "a list of at least {min_length}",
    "too_long": "a list of at most {max_length}",
}


class Section(BaseModel):
    """A part of a file: unknown keys are errors, values are immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _switches_are_no_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        """`yes` for a number of steps would be read as one of them."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError(
                f"must be {WHOLE if cls.model_fields[str(info.field_name)].annotation is int else NUMBER}"
            )
        return value


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
    others = [_of_whole_list(detail) for detail in details if detail["type"] != "extra_forbidden"]
    return unknown + [
        detail for detail in others if detail["type"] != "missing" or detail["loc"] not in meant
    ]


def in_words(detail: Mapping[str, Any]) -> str:
    """``must be …``, or what else is wrong with a value, in the words of all our errors.

    Args:
        detail: of one mistake, as pydantic has it.
    """
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _MUST_BE:
        return f"must be {_MUST_BE[kind].format(**context)}"
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"])
        return f"unknown{did_you_mean(str(detail['input']), allowed)} (allowed: {', '.join(allowed)})"
    return str(detail["msg"]).removeprefix("Value error, ")


def _of_whole_list(detail: ErrorDetails) -> ErrorDetails:
    """A position that is missing in a list of fixed length, as a mistake of the list."""
    place = detail["loc"]
    if detail["type"] != "missing" or not isinstance(place[-1], int):
        return detail
    return {**detail, "type": "too_short", "loc": place[:-1], "ctx": {"min_length": place[-1] + 1}}


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
