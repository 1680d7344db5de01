"""Linear heads by stochastic gradient descent: a grid of rates and decays, all trained in one pass over the rows.

Momentum .9, a cosine from the rate to 0, weights drawn from N(0, .01²), as the linear probes of DINO and SVT; features
are standardised by the training rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.evaluation.metrics import require_finite
from vidssl.evaluation.probes.holdout import Rows, held_out_parts
from vidssl.evaluation.probes.selection import Setting, cross_entropies

RATES = tuple(float(x) for x in np.logspace(-4, 0.5, 10))
DECAYS = (0.0, 1e-4)
CHUNK = 16_384  # rows looked at at a time
JUDGED = 1024  # held-out rows looked at at a time, by all heads


GRID = tuple(Setting(*pair) for pair in product(RATES, DECAYS))


class LinearHeads(NamedTuple):
    """H heads; scores are ``(x - mean) / std @ weight.T + bias``. weight: (H, K, D); bias: (H, K); mean, std: (D,)."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) features -> (H, N, K) logits."""
        x = (features.to(self.mean) - self.mean) / self.std
        return torch.einsum("nd,hkd->hnk", x, self.weight) + self.bias[:, None]


@torch.no_grad()
def fit_heads(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    grid: Sequence[Setting] = GRID,
    *,
    epochs: int = 20,
    batch_size: int = 256,
    seed: int = 0,
) -> LinearHeads:
    """Train a head for each setting; all see the same rows in the same order from the same start.

    Args:
        features: (N, D) floating point, also mapped into memory. labels: (N,) in [0, num_classes).
        grid: H settings. `rate` is that of the first step. decay: times the weights, added to the gradient; not of the bias.
        epochs: passes over the rows; the last batch of one is smaller.
        seed: of start and order.
    """
    generator = torch.Generator().manual_seed(seed)
    labels, heads, device = labels.to(features.device), len(grid), features.device
    chunks = features.split(CHUNK)
    mean = torch.stack([chunk.double().sum(0) for chunk in chunks]).sum(0) / len(features)
    std = (torch.stack([(x.double() - mean).square().sum(0) for x in chunks]).sum(0) / len(features)).sqrt()
    dtype = torch.promote_types(features.dtype, torch.float32)
    mean, std = mean.to(dtype), torch.where(std <= 1e-7 * mean.abs().clamp(min=1e-30), 1.0, std).to(dtype)
    start = 0.01 * torch.randn(num_classes, features.shape[1], generator=generator, dtype=dtype)
    weight = start.to(device).repeat(heads, 1)  # (H·K, D): one product serves all heads
    bias = weight.new_zeros(heads * num_classes)
    weight_step, bias_step = torch.zeros_like(weight), torch.zeros_like(bias)
    rate, decay = (
        torch.tensor(column, dtype=dtype, device=device).repeat_interleave(num_classes)
        for column in zip(*grid, strict=True)
    )
    steps, done = epochs * math.ceil(len(features) / batch_size), 0
    for _ in range(epochs):
        for rows in torch.randperm(len(features), generator=generator).split(batch_size):
            chosen = rows.to(device)
            x, y = (features[chosen].to(dtype) - mean) / std, labels[chosen]
            error = (x @ weight.T).add_(bias).reshape(len(x), heads, num_classes).softmax(2)
            error[torch.arange(len(x), device=device), :, y] -= 1
            error = error.reshape(len(x), -1).div_(len(x))
            weight_step.mul_(0.9).addmm_(error.T, x).addcmul_(decay[:, None], weight)
            bias_step.mul_(0.9).add_(error.sum(0))
            now = rate * (0.5 * (1 + math.cos(math.pi * done / steps)))
            weight.addcmul_(now[:, None], weight_step, value=-1)
            bias.addcmul_(now, bias_step, value=-1)
            done += 1
    shape = (heads, num_classes)
    return LinearHeads(weight.reshape(*shape, -1), bias.reshape(shape), mean, std)


def losses_of(heads: LinearHeads, features: Tensor, labels: Tensor) -> Tensor:
    """(H,) float64, on the CPU: mean cross-entropy of rows (N, D) with labels (N,); infinite for a head that diverged."""
    total = torch.zeros(len(heads.weight), dtype=torch.float64)
    for x, y in zip(features.split(JUDGED), labels.split(JUDGED), strict=True):
        total += cross_entropies(heads(x), y).sum(1).cpu()
    return (total / len(features)).nan_to_num(nan=math.inf)


def probe_sgd(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    num_classes: int,
    *,
    groups: Tensor | None = None,
    grid: Sequence[Setting] = GRID,
    epochs: int = 20,
    batch_size: int = 256,
    seed: int = 0,
    held_out: Rows | None = None,
) -> tuple[Tensor, Setting]:
    """Choose a setting on held-out rows by cross-entropy, train it on all rows, score the test rows.

    Args:
        groups, held_out: see `held_out_parts`; the rest as in `fit_heads`.

    Returns:
        (N_test, num_classes) logits, and the setting.

    Raises:
        VidsslError: for training rows that are not finite, or when no class has two rows (of two groups).
    """
    require_finite("linear probe", train_features)
    how: Any = {"epochs": epochs, "batch_size": batch_size, "seed": seed}
    if len(grid) == 1:
        return fit_heads(train_features, train_labels, num_classes, grid, **how)(test_features)[0], grid[0]
    [(fit, fit_labels, out, out_labels)] = held_out_parts(
        train_features, train_labels, groups, seed=seed, held_out=held_out
    )
    heads = fit_heads(fit, fit_labels, num_classes, grid, **how)
    best = int(losses_of(heads, out, out_labels).argmin())
    if held_out is not None:
        return heads(test_features)[best], grid[best]
    return fit_heads(train_features, train_labels, num_classes, [grid[best]], **how)(test_features)[0], grid[
        best
    ]
