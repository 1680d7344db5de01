"""The recurrences and the scan against plain loops, both directions, with gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vidssl.dynamics._engine.recurrence import associative_scan, congruence_recurrence, linear_recurrence


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=30, deadline=None)
@given(steps=st.integers(1, 40))
def test_scan_composes_in_order(steps: int) -> None:
    """Matrix products, which do not commute, for lengths around every power of two."""
    factors = randn(steps, 2, 2, seed=steps)
    (prefix,) = associative_scan(lambda earlier, later: (later[0] @ earlier[0],), (factors,))
    product = torch.eye(2, dtype=torch.float64)
    for t in range(steps):
        product = factors[t] @ product
        torch.testing.assert_close(prefix[t], product)


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("b", "k"), [(1, 4), (3, 1), (1, 1)])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_recurrences_equal_loops(steps: int, b: int, k: int, reverse: bool, parallel: bool) -> None:
    F, g, x = randn(steps, b, 2, 2), randn(steps, b, 2, k, seed=1), randn(b, 2, k, seed=2)
    U, X = randn(steps, b, 2, 2, seed=3), randn(b, 2, 2, seed=4)
    vectors = linear_recurrence(F, g, x, reverse=reverse, parallel=parallel)
    covariances = congruence_recurrence(F, U, X, reverse=reverse, parallel=parallel)
    for i in range(steps + 1):
        t = steps - i if reverse else i
        torch.testing.assert_close(vectors[t], x)
        torch.testing.assert_close(covariances[t], X)
        if i < steps:
            step = t - 1 if reverse else t
            x, X = F[step] @ x + g[step], F[step] @ X @ F[step].mT + U[step]


@pytest.mark.parametrize("parallel", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("b", [1, 2])
def test_recurrences_can_be_differentiated_twice(b: int, reverse: bool, parallel: bool) -> None:
    """Starts, terms and matrices, none of them symmetric."""
    vectors = randn(3, b, 2, 2), randn(3, b, 2, 2, seed=1), randn(b, 2, 2, seed=2)
    for recurrence in (linear_recurrence, congruence_recurrence):
        inputs = tuple(x.clone().requires_grad_() for x in vectors)

        def run(*x: Tensor, recurrence=recurrence) -> Tensor:  # type: ignore[no-untyped-def]
            return recurrence(*x, reverse=reverse, parallel=parallel)

        assert torch.autograd.gradcheck(run, inputs)
        assert torch.autograd.gradgradcheck(run, inputs, fast_mode=True)
