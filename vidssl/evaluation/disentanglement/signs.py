"""The signs of motions: what of a factor of motion only the order of the frames tells.

Frames without their order still show the axis along which a thing moved and how fast it turned; whether it went left or
right, or which way round it turned, they do not show. So these are asked for by themselves, of the clips that have such a
sign: what a representation says of them is not of single frames, however many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vidssl.evaluation.disentanglement.information import Ints


class Sign(NamedTuple):
    """A sign that some values of a factor have.

    Attributes:
        name: for people. factor, values: the factor, by its name and number of values.
        negative, positive: the values of either sign; clips of other values are left out.
    """

    name: str
    factor: str
    values: int
    negative: tuple[int, ...]
    positive: tuple[int, ...]

    def labels(self, column: Ints) -> Ints:
        """(N,) values of the factor -> (N,): 0 or 1, and -1 where there is no sign."""
        return np.where(np.isin(column, self.positive), 1, np.where(np.isin(column, self.negative), 0, -1))


# Directions are steps of 45 degrees clockwise from the right, seen with y downwards.
_KNOWN = (
    Sign("left or right", "direction", 8, (3, 4, 5), (7, 0, 1)),
    Sign("up or down", "direction", 8, (5, 6, 7), (1, 2, 3)),
)
# Velocities from the fastest of one sense to the fastest of the other, none in the middle.
_ABOUT_THE_MIDDLE = {
    "spin": "sense of spin",
    "object_spin": "sense of spin",
    "camera_velocity": "sense of camera",
}


def signs_of(names: Sequence[str], sizes: Sequence[int], motion: Sequence[bool]) -> list[Sign]:
    """The signs that can be asked for, of factors of these names, numbers of values, and kinds.

    Known are the direction of movement in a plane (8 values), and spins and the camera's velocity (an odd number of
    values, the middle one being none).
    """
    found = []
    for name, size, moves in zip(names, sizes, motion, strict=True):
        if not moves:
            continue
        found += [sign for sign in _KNOWN if (sign.factor, sign.values) == (name, size)]
        if name in _ABOUT_THE_MIDDLE and size % 2 and size > 1:
            below, above = tuple(range(size // 2)), tuple(range(size // 2 + 1, size))
            found.append(Sign(_ABOUT_THE_MIDDLE[name], name, size, below, above))
    return found
