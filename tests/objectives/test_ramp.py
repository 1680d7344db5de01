"""Options that move linearly over the first share of training."""

from __future__ import annotations

import pytest

from vidssl.errors import VidsslError
from vidssl.objectives.ramp import Ramp, ramps


def test_linear_over_its_share_then_constant() -> None:
    ramp = Ramp(1.0, 3.0, 0.5)
    assert [ramp.at(x) for x in (-1, 0, 0.25, 0.5, 1)] == [1, 1, 2, 3, 3]
    assert Ramp(1.0, 3.0, 0.0).at(0) == 3


def test_without_a_start_it_is_constant() -> None:
    made = ramps({"weight": (None, 2.0), "other": (0.0, 1.0)}, "share", 0.2, positive=False)
    assert made == {"weight": Ramp(2.0, 2.0, 0.2), "other": Ramp(0.0, 1.0, 0.2)}


@pytest.mark.parametrize(
    ("values", "share", "message"),
    [
        ({"t": (None, 0.0)}, 0.2, "^t=0.0: must be positive$"),
        ({"t": (-1.0, 1.0)}, 0.2, "^t_start=-1.0: must be positive$"),
        ({"t": (None, 1.0)}, 0.0, r"^share=0.0: must be in \(0, 1\]$"),
    ],
)
def test_a_value_outside_is_named(
    values: dict[str, tuple[float | None, float]], share: float, message: str
) -> None:
    with pytest.raises(VidsslError, match=message):
        ramps(values, "share", share, positive=True)
