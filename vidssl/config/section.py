"""What all sections of a recipe share: their base class, and the kinds of numbers in them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from vidssl import schema

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # as torch takes them
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0.0)]


AUTO = 0  # the number that stands for "auto" until the right one is found
_OR_AUTO = {"anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto"], "type": "string"}]}


def _number_or_auto(value: Any) -> Any:
    if value == "auto":
        return AUTO
    if isinstance(value, str) and not value.lstrip("-").isdecimal():
        raise ValueError("must be a whole number or auto")
    if value == AUTO and isinstance(value, int):
        raise ValueError("must be at least 1, or auto")
    return value


BatchSize = Annotated[
    int,
    Field(ge=AUTO),
    BeforeValidator(_number_or_auto),
    PlainSerializer(lambda size: "auto" if size == AUTO else size),
    WithJsonSchema(_OR_AUTO),
]


class Section(schema.Section):
    """A part of the recipe."""

    model_config = ConfigDict(validate_default=True)
