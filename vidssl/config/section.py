"""What all sections of a recipe share: their base class, and the kinds of numbers in them."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from vidssl import schema

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[float, Field(gt=0.0)]
Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[float, Field(ge=0.0)]


class Section(schema.Section):
    """A part of the recipe."""

    model_config = ConfigDict(validate_default=True)
