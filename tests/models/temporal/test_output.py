"""The output map of what is added: its formula, its gradients, and what optimisers make of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidssl.models.temporal.output import LEAK, OutputMap


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (3, 6), (12, 6), (5, 7)])
def test_it_is_a_linear_map_with_a_multiple_of_the_identity_beside_it(inputs: int, outputs: int) -> None:
    output = OutputMap(inputs, outputs).double()
    assert not any(parameter.abs().max() for parameter in output.parameters())
    short = min(inputs, outputs)
    identity = torch.tensor(
        [[float(row % short == column % short) for column in range(inputs)] for row in range(outputs)],
        dtype=torch.float64,
    )
    if max(inputs, outputs) % short:  # the last repetition is cut
        assert (identity.sum(0) > 0).all()
    for parameter in output.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(4, inputs, dtype=torch.float64)
    expected = x @ (output.weight + LEAK * identity).T + output.bias
    torch.testing.assert_close(output(x), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize(("inputs", "outputs"), [(6, 6), (3, 6), (12, 6), (5, 7)])
def test_every_input_has_a_gradient_while_the_map_is_zero(inputs: int, outputs: int) -> None:
    output = OutputMap(inputs, outputs)
    x = torch.randn(4, inputs, requires_grad=True)
    (output(x) * torch.randn(4, outputs)).sum().backward()
    assert x.grad is not None
    assert bool((x.grad.abs() > 0).all())
    assert x.grad.abs().max() < 1e-5
    assert output.weight.grad is not None
    assert bool((output.weight.grad.abs() > 0).all())


def test_it_is_open_in_half_precision() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert OutputMap(4, 4)(torch.ones(1, 4)).abs().min() > 0
