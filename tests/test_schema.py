from __future__ import annotations

from vidssl.schema import Section, unknown_key


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
