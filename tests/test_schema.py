from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field, ValidationError

from vidssl.schema import Section, in_words, mistakes, unknown_key


class Leaf(Section):
    colour: str = "green"


class Tree(Section):
    name: str = ""
    leaves: tuple[Leaf, ...] = ()
    crown: Leaf | None = None


def test_an_unknown_key_is_answered_with_those_of_its_section():
    assert unknown_key(Tree, ("nam",)) == (
        "nam: unknown key; did you mean 'name'? (allowed: name, leaves, crown)"
    )
    for place in (("leaves", 2), ("crown",)):
        where = ".".join(map(str, place))
        assert unknown_key(Tree, (*place, "color")) == (
            f"{where}.color: unknown key; did you mean 'colour'? (allowed: colour)"
        )


class Values(Section):
    count: Annotated[int, Field(ge=1)] = 1
    share: Annotated[float, Field(ge=0, le=1)] = 0.5
    rate: Annotated[float, Field(gt=0)] = 0.5
    switch: bool = False
    word: str = ""
    choice: Literal["lars", "adamw"] = "lars"
    pair: tuple[float, float] = (0.0, 1.0)
    names: Annotated[tuple[str, ...], Field(min_length=1)] = ("x",)
    section: Leaf = Leaf()
    table: dict[str, int] = Field(default_factory=dict)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("count", 0, "must be at least 1"),
        ("count", "many", "must be a whole number"),
        ("count", 1.5, "must be a whole number"),
        ("count", True, "must be a whole number"),
        ("count", None, "must be a whole number"),
        ("share", 2, "must be at most 1"),
        ("rate", 0, "must be above 0"),
        ("rate", "fast", "must be a number"),
        ("rate", True, "must be a number"),
        ("rate", float("inf"), "must be finite"),
        ("rate", float("nan"), "must be finite"),
        ("switch", "maybe", "must be true or false"),
        ("word", 5, "must be a word"),
        ("choice", "adam", "unknown; did you mean 'adamw'? (allowed: lars, adamw)"),
        ("pair", 0.9, "must be a list"),
        ("pair", (0.9,), "must be a list of at least 2"),
        ("pair", (1, 2, 3), "must be a list of at most 2"),
        ("names", (), "must be a list of at least 1"),
        ("section", 5, "must be a section of `key: value` lines"),
        ("table", 5, "must be a section of `key: value` lines"),
    ],
)
def test_mistakes_are_said_in_the_words_of_all_our_errors(key, value, said):
    with pytest.raises(ValidationError) as caught:
        Values.model_validate({key: value})
    [detail] = mistakes(Values, caught.value)
    assert detail["loc"] == (key,)
    assert in_words(detail) == said
