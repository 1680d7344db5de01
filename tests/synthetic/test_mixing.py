"""Random networks are injective and what their papers say."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from vidssl.errors import VidsslError
from vidssl.synthetic.mixing import injective_mixing, nuisance_mixing


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("dim", "widths"), [(10, [25, 50, 100]), (40, [40, 50, 100]), (60, [60, 60, 100])])
def test_nuisance_mixing(dim: int, widths: list[int]) -> None:
    mixing = nuisance_mixing(dim, generator())
    assert [len(weight) for weight in mixing.weights] == widths
    for weight in mixing.weights:
        torch.testing.assert_close(weight.T @ weight, torch.eye(weight.shape[1]), atol=1e-5, rtol=0)
    assert torch.cat(list(mixing.biases)).std().item() == pytest.approx(0.1, rel=0.2)
    x = torch.randn(6, dim, generator=generator(1))
    layers: list[nn.Module] = []
    for weight, bias in zip(mixing.weights, mixing.biases, strict=True):
        layer = nn.Linear(weight.shape[1], weight.shape[0])
        layer.weight.data, layer.bias.data = weight, bias
        layers += [layer, nn.LeakyReLU(0.2)]
    torch.testing.assert_close(mixing(x), nn.Sequential(*layers[:-1])(x))


def test_a_mixing_that_would_fold_is_refused() -> None:
    with pytest.raises(VidsslError, match="dim=101"):
        nuisance_mixing(101)
    with pytest.raises(VidsslError, match="outputs=2"):
        injective_mixing(3, outputs=2)


def test_injective_mixing() -> None:
    mixing = injective_mixing(3, generator=generator())
    assert [tuple(weight.shape) for weight in mixing.weights] == [(3, 3)] * 4 + [(50, 3)]
    for weight in mixing.weights[:4]:
        torch.testing.assert_close(weight.norm(dim=0), torch.ones(3))
        assert torch.linalg.cond(weight).item() < 1.5
    x = torch.randn(20, 3, generator=generator(1))
    hidden = x
    for weight in mixing.weights[:3]:
        hidden = torch.nn.functional.leaky_relu(hidden @ weight.T, 0.2)
    torch.testing.assert_close(mixing(x), hidden @ mixing.weights[3].T @ mixing.weights[4].T)
