"""One line for a value that is none of the allowed ones."""

from __future__ import annotations

import pytest

from vidssl.errors import NAMED, OPTION, VidsslError, check_choice


def test_an_allowed_value_passes() -> None:
    check_choice("scale", "auto", ("auto", "fixed"))


@pytest.mark.parametrize(
    ("value", "message", "said"),
    [
        ("fixd", OPTION, "scale='fixd': unknown; did you mean 'fixed'? (allowed: auto, fixed)"),
        (3, OPTION, "scale=3: unknown (allowed: auto, fixed)"),
        ("fixd", NAMED, "scale 'fixd': unknown; did you mean 'fixed'? (auto, fixed)"),
        ("{x}", "no {name} {value!r}{guess}", "no scale '{x}'"),
    ],
)
def test_another_value_is_named_beside_the_allowed_ones(value: object, message: str, said: str) -> None:
    with pytest.raises(VidsslError) as raised:
        check_choice("scale", value, ("auto", "fixed"), message)
    assert str(raised.value) == said
