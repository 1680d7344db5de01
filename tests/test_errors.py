"""One line for a value that is none of the allowed ones."""

from __future__ import annotations

import pytest

from vidssl.errors import (
    COUNT,
    NAMED,
    NUMBER,
    OPTION,
    OR_NULL,
    SIZES,
    SWITCH,
    WHOLE,
    WORD,
    VidsslError,
    check_choice,
    check_kind,
    counted,
)


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


@pytest.mark.parametrize(
    ("kind", "fits", "others"),
    [
        (SWITCH, [True, False], [0, "true", None]),
        (WORD, ["x"], [1, None]),
        (NUMBER, [1, 0.5, -2], [True, "1", None]),
        (WHOLE, [0, -3], [True, 1.0, None]),
        (COUNT, [1, 8], [0, True, 2.0, None]),
        (COUNT + OR_NULL, [1, None], [0]),
        (SIZES, [[], [1, 2], (3,)], [[0], [True], 3, None]),
        (SIZES + OR_NULL, [[4], None], [["4"]]),
    ],
)
def test_kinds_of_values(kind: str, fits: list[object], others: list[object]) -> None:
    for value in fits:
        check_kind("head.norm", value, kind)
    for value in others:
        with pytest.raises(VidsslError) as raised:
            check_kind("head.norm", value, kind)
        assert str(raised.value) == f"head.norm={value!r}: must be {kind}"


def test_one_of_a_thing_is_no_plural() -> None:
    assert [counted(n, "video") for n in (0, 1, 2)] == ["0 videos", "1 video", "2 videos"]
    assert [counted(n, "class") for n in (1, 3)] == ["1 class", "3 classes"]
