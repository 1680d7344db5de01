"""Weights and temperatures that move linearly over the first share of training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from vidssl.errors import VidsslError


class Ramp(NamedTuple):
    """Linear from `start` to `end` over the first `share` of training."""

    start: float
    end: float
    share: float

    def at(self, fraction: float) -> float:
        """The value when `fraction` of training is done."""
        return self.start + min(max(fraction / self.share, 0.0), 1.0) * (self.end - self.start)


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
    if not 0 < share <= 1:
        raise VidsslError(f"{share_name}={share}: must be in (0, 1]")
    made = {}
    for name, (start, end) in values.items():
        for key, value in ((name, end), (f"{name}_start", end if start is None else start)):
            if not (value > 0 if positive else value >= 0):
                raise VidsslError(f"{key}={value}: must {'be positive' if positive else 'not be negative'}")
        made[name] = Ramp(end if start is None else start, end, share)
    return made
