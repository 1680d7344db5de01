"""Weights and temperatures that move linearly over the first share of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vidssl.errors import VidsslError, check_value


class Ramp(NamedTuple):
    """Linear from `start` to `end` over the first `share` of training; a share of 0 is over at once."""

    start: float
    end: float
    share: float

    def at(self, fraction: float) -> float:
        """The value when `fraction` of training is done."""
        done = 1.0 if self.share <= 0 else min(max(fraction / self.share, 0.0), 1.0)
        return self.start + done * (self.end - self.start)


def check_share(name: str, share: float) -> None:
    """Of training, in (0, 1].

    Raises:
        VidsslError: for a share outside.
    """
    check_value(name, share, 0 < share <= 1, "in (0, 1]")


def ramps(
    values: Mapping[str, tuple[float | None, float]], share_name: str, share: float, positive: bool
) -> dict[str, Ramp]:
    """Ramps of one share.

    Args:
        values: name -> (start, end); constant where the start is None.
        share_name, share: of training, in (0, 1].
        positive: whether zero is refused, as for temperatures.

    Raises:
        VidsslError: naming the option, for a value outside.
    """
    check_share(share_name, share)
    made = {}
    for name, (start, end) in values.items():
        ramp = Ramp(end if start is None else start, end, share)
        for key, value in ((name, ramp.end), (f"{name}_start", ramp.start)):
            if not (value > 0 if positive else value >= 0):
                raise VidsslError(f"{key}={value}: must {'be positive' if positive else 'not be negative'}")
        made[name] = ramp
    return made
