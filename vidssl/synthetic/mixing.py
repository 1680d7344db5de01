"""Random injective networks, through which the latents of toy sequences are observed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from vidssl.errors import VidsslError

# Of the leaky ReLU for negative numbers.
SLOPE = 0.2


class Mixing(NamedTuple):
    """A random network with leaky ReLUs between its layers; injective.

    Attributes:
        weights: (out, in) per layer.
        biases: (out,) per layer.
    """

    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    # The last layer follows the one before it without a nonlinearity.
    linear_end: bool = False

    def __call__(self, x: Tensor) -> Tensor:
        bent = len(self.weights) - 1 - self.linear_end
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = x @ weight.T + bias
            if i < bent:
                x = torch.nn.functional.leaky_relu(x, SLOPE)
        return x


def nuisance_mixing(dim: int, generator: Generator | None = None) -> Mixing:
    """Three affine layers to max(dim, 25), max(·, 50) and 100 outputs: orthonormal columns, biases 0.1 N(0, I)."""
    widths = [dim, max(dim, 25)]
    widths += [max(widths[-1], 50), 100]
    if dim > widths[-1]:
        raise VidsslError(f"nuisance_mixing: dim={dim}: at most {widths[-1]}, or it would not be injective")
    weights = [torch.linalg.qr(torch.randn(o, i, generator=generator))[0] for i, o in pairwise(widths)]
    biases = [0.1 * torch.randn(o, generator=generator) for o in widths[1:]]
    return Mixing(weights, biases)


def injective_mixing(
    dim: int, outputs: int = 50, candidates: int = 10_000, generator: Generator | None = None
) -> Mixing:
    """Four well-conditioned square layers with leaky ReLUs between, then a linear map to `outputs`.

    Each square layer has U(-1, 1) entries with unit columns and is drawn anew until its condition number is among the
    best 0.1 % of `candidates` draws.
    """
    if outputs < dim:
        raise VidsslError(f"injective_mixing: outputs={outputs}: at least dim={dim}")

    def draw(n: int) -> Tensor:
        entries = 2 * torch.rand(n, dim, dim, generator=generator) - 1
        return torch.nn.functional.normalize(entries, dim=-2)

    limit = torch.linalg.cond(draw(candidates)).quantile(0.001)
    layers: list[Tensor] = []
    while len(layers) < 4:
        W = draw(1000)
        layers += W[torch.linalg.cond(W) <= limit].unbind()
    bound = 1 / math.sqrt(dim)
    lift = bound * (2 * torch.rand(outputs, dim, generator=generator) - 1)
    weights = [*layers[:4], lift]
    return Mixing(weights, [torch.zeros(len(W)) for W in weights], linear_end=True)
