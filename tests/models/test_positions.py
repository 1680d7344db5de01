"""Position tables resampled by a matrix, against torch's own interpolation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.models.positions import resample_table

SIDES = st.integers(1, 9)


@settings(max_examples=25, deadline=None)
@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
def test_space_is_bicubic_with_antialiasing(old: tuple[int, int], new: tuple[int, int]) -> None:
    table = torch.randn(old[0] * old[1], 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    image = table.T.reshape(1, 3, *old)
    expected = F.interpolate(image, size=new, mode="bicubic", antialias=True, align_corners=False)
    resampled = resample_table(table, old, new)
    torch.testing.assert_close(resampled, expected[0].flatten(1).T, atol=1e-12, rtol=0)


@settings(max_examples=25, deadline=None)
@given(old=SIDES, new=SIDES)
def test_time_is_linear(old: int, new: int) -> None:
    table = torch.randn(old, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(table.T[None], size=new, mode="linear", align_corners=False)
    torch.testing.assert_close(resample_table(table, (old,), (new,)), expected[0].T, atol=1e-12, rtol=0)


def test_equal_grids_keep_the_table_itself() -> None:
    table = torch.randn(4, 2)
    assert resample_table(table, (2, 2), (2, 2)) is table


def test_gradient_reaches_the_table_after_a_first_call_under_inference_mode() -> None:
    table = torch.randn(6, 2, requires_grad=True)
    with torch.inference_mode():
        resample_table(table, (6,), (5,))
    resample_table(table, (6,), (5,)).sum().backward()
    assert table.grad is not None
    assert table.grad.sum() == pytest.approx(10.0)
