"""Which spaces a concept objective works in, and what each has of its own: weight, temperatures, prior."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any, NamedTuple

from torch import Tensor

from vidssl.concepts.attributes import KINDS
from vidssl.errors import VidsslError, check_choice, check_value

SPACES = ("category", "description")  # of actions, row-aligned
ALL_SPACES = (*SPACES, *KINDS)


@dataclass(frozen=True)
class SpaceOptions:
    """Of one space; None takes the objective's own.

    Attributes:
        weight: in the mean over spaces; an alignment weighs as much as the product of its two.
        student_temperature, teacher_temperature: τ_s, τ_t, constant in time.
        prior, prior_momentum, prior_strength: see `build_prior`.
    """

    weight: float = 1.0
    student_temperature: float | None = None
    teacher_temperature: float | None = None
    prior: str | None = None
    prior_momentum: float | None = None
    prior_strength: float | None = None


class SpaceViews(NamedTuple):
    """Of one space, per view: cosines of the student and the teacher, targets; and the temperatures τ_s, τ_t."""

    student: list[Tensor]
    teacher: list[Tensor]
    targets: list[Tensor]
    student_temperature: float
    teacher_temperature: float


def read_spaces(given: Any) -> dict[str, SpaceOptions]:
    """Spaces by name, in the order of `ALL_SPACES`.

    Args:
        given: a list of names, or names with options: ``{"category": {}, "motion": {"teacher_temperature": 0.02}}``.

    Raises:
        VidsslError: for no space, an unknown one, or an unknown or unsuitable option.
    """
    if isinstance(given, Sequence) and not isinstance(given, str):
        given = dict.fromkeys(given)
    if not isinstance(given, Mapping) or not given:
        raise VidsslError(
            f"spaces {given!r}: must be a list of {', '.join(ALL_SPACES)}, or each with its options"
        )
    allowed = [field.name for field in fields(SpaceOptions)]
    for name, options in given.items():
        check_choice(
            "spaces", name, ALL_SPACES, "{name}: {value!r}: no such space{guess} (allowed: {allowed})"
        )
        if not isinstance(options or {}, Mapping):
            raise VidsslError(f"spaces.{name} {options!r}: must be options ({', '.join(allowed)})")
        for key, value in (options or {}).items():
            check_choice(
                f"spaces.{name}",
                key,
                allowed,
                "{name}: {value!r}: no such option{guess} (allowed: {allowed})",
            )
            if key == "prior":
                continue  # build_prior says what there is
            number = isinstance(value, int | float) and not isinstance(value, bool)
            fits = number and (value > 0 if key.endswith("temperature") else value >= 0)
            want = "a positive number" if key.endswith("temperature") else "a number, not negative"
            check_value(f"spaces.{name}.{key}", value, fits or (value is None and key != "weight"), want)
    found = {name: SpaceOptions(**(given[name] or {})) for name in ALL_SPACES if name in given}
    if not sum(options.weight for options in found.values()) > 0:
        raise VidsslError("spaces: all have the weight 0")
    return found


def attribute_kinds(given: Any) -> tuple[str, ...]:
    """The spaces of attributes among those given; arguments and errors as in `read_spaces`."""
    return tuple(name for name in read_spaces(given) if name in KINDS)


def aligned_pairs(spaces: Mapping[str, SpaceOptions]) -> dict[tuple[str, str], float]:
    """Pairs of spaces that an alignment ties together, with weights that sum to 1: names with descriptions, and either
    with each kind of attribute. None where no pair has a weight.
    """
    weights = {(a, b): spaces[a].weight * spaces[b].weight for a, b in combinations(spaces, 2) if a in SPACES}
    total = sum(weights.values())
    return {pair: weight / total for pair, weight in weights.items() if weight > 0}
