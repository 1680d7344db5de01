"""Multinomial logistic regression at its optimum, and the choice of its penalty on held-out training rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluation.metrics import require_finite
from vidssl.evaluation.probes.holdout import Rows, held_out_parts

L2_GRID = tuple(float(x) for x in np.logspace(-5, 2, 15))
CHUNK = 16_384  # rows looked at at a time
LARGE = 10**10  # N · D · K beyond which products are of float32


@dataclass(frozen=True)
class LogisticModel:
    """Scores are ``(x - mean) / std @ weight.T + bias``."""

    weight: Tensor
    bias: Tensor
    mean: Tensor
    std: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """(N, D) features -> (N, K) logits in float64."""
        x = (features.to(self.weight) - self.mean) / self.std
        return x @ self.weight.T + self.bias


def fit_logistic(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    l2: float,
    start: LogisticModel | None = None,
    max_iterations: int = 500,
    watch: Callable[[float, float], None] | None = None,
) -> LogisticModel:
    """Minimise mean cross-entropy + l2/2 · ‖W‖² over standardised features (the bias is not penalised) by L-BFGS.

    In float64; of more than `LARGE` numbers in the largest product, products in float32 and sums in float64. Rows are looked
    at `CHUNK` at a time, so that features that are mapped into memory are never held as a whole.

    Args:
        features: (N, D).
        labels: (N,) in [0, num_classes); a class may be absent.
        l2: at least 0.
        start: a solution for another `l2` of the same features to start from.
        watch: called after every look at all rows with the objective and the largest number of its gradient, |g|.
    """
    labels = labels.to(features.device)
    rows = _Rows(features, torch.float64 if features.numel() * num_classes <= LARGE else torch.float32)
    # What is searched is this many times the weights, so that a strong penalty does not make them far steeper than the bias.
    scale = math.sqrt(1 + l2 * num_classes)
    if start is None:
        counts = torch.bincount(labels, minlength=num_classes).to(rows.mean)
        weight = rows.mean.new_zeros(num_classes, features.shape[1])
        bias = (counts.clamp(min=0.5) / len(labels)).log()  # the optimum where the penalty leaves no weights
    else:
        weight, bias = scale * start.weight, start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    exact = rows.dtype == torch.float64
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        history_size=20,
        tolerance_grad=1e-9 if exact else 1e-6,
        tolerance_change=1e-14 if exact else 1e-9,
        line_search_fn="strong_wolfe",
    )

    @torch.no_grad()
    def closure() -> float:
        total, own = 0.0, weight / scale
        slope, bias.grad = l2 * own, torch.zeros_like(bias)
        w, b = own.to(rows.dtype), bias.to(rows.dtype)
        for x, y in zip(rows, labels.split(CHUNK), strict=True):
            log_p = (x @ w.T).add_(b).log_softmax(1)
            total -= float(log_p.gather(1, y[:, None]).double().sum())
            error = log_p.exp_()
            error[torch.arange(len(y), device=y.device), y] -= 1
            slope += (error.T @ x).double() / len(features)
            bias.grad += error.double().sum(0) / len(features)
        weight.grad = slope / scale
        value = total / len(features) + l2 / 2 * float(own.square().sum())
        if watch is not None:
            watch(value, max(float(slope.abs().max()), float(bias.grad.abs().max())))
        return value

    optimizer.step(closure)
    return LogisticModel(weight.detach() / scale, bias.detach(), rows.mean, rows.std)


class _Rows:
    """Standardised rows, `CHUNK` at a time; few enough are made once. mean, std: (D,) float64, the latter 1 where constant."""

    def __init__(self, features: Tensor, dtype: torch.dtype) -> None:
        self.dtype, self._chunks = dtype, features.split(CHUNK)
        total = len(features)
        self.mean = torch.stack([chunk.double().sum(0) for chunk in self._chunks]).sum(0) / total
        squares = [(chunk.double() - self.mean).square().sum(0) for chunk in self._chunks]
        std = (torch.stack(squares).sum(0) / total).sqrt()
        # A dimension that is constant up to rounding carries nothing; scaling it up would turn the rounding into a feature.
        largest = torch.stack([chunk.abs().amax(0) for chunk in self._chunks]).amax(0).double()
        self.constant = std <= 1e-7 * largest.clamp(min=1e-30)
        self.std = torch.where(self.constant, torch.ones_like(std), std)
        self._ready = [self._standard(chunk) for chunk in self._chunks] if total <= CHUNK else None

    def _standard(self, chunk: Tensor) -> Tensor:
        x = (chunk.to(self.dtype) - self.mean.to(self.dtype)) / self.std.to(self.dtype)
        x[:, self.constant] = 0
        return x

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self._ready) if self._ready else map(self._standard, self._chunks)


def choose_l2(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    groups: Tensor | None = None,
    grid: Sequence[float] = L2_GRID,
    seed: int = 0,
    held_out: Rows | None = None,
    watch: Callable[[float, float], None] | None = None,
) -> float:
    """The penalty with the lowest cross-entropy on held-out fifths of the rows, in stratified splits.

    Cross-entropy rather than accuracy, because on a small set accuracy has many ties; for the same reason it is the mean
    over five splits below 2,000 rows, above them one is enough.

    Args:
        groups: see `grouped_split`; None: every row for itself.
        held_out: rows and labels to choose by, instead of a part of these.
        watch: called after every fit with its penalty and its cross-entropy on the held-out rows.

    Raises:
        VidsslError: when no class has two rows, or groups, so that nothing can be held out.
    """
    if len(grid) == 1:
        return grid[0]
    total = np.zeros(len(grid))
    for fit, fit_labels, test, test_labels in held_out_parts(
        features, labels, groups, repeats=5 if len(labels) < 2000 else 1, seed=seed, held_out=held_out
    ):
        # Weak penalties take the longest to fit and are never chosen once over-fitting has set in, so the rest counts
        # as infinitely bad once weakening it has hurt twice. Each fit starts from that of the next stronger penalty.
        losses = np.full(len(grid), np.inf)
        model, last, rises = None, np.inf, 0
        for position in np.argsort(grid)[::-1]:
            l2 = grid[position]
            model = fit_logistic(fit, fit_labels, num_classes, l2, model, max_iterations=100)
            losses[position] = F.cross_entropy(model(test), test_labels.to(test.device)).item()
            if watch is not None:
                watch(l2, float(losses[position]))
            rises += bool(losses[position] > last)
            last = losses[position]
            if rises == 2:
                break
        total += losses
    return grid[int(total.argmin())]


def probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    num_classes: int,
    *,
    groups: Tensor | None = None,
    grid: Sequence[float] = L2_GRID,
    seed: int = 0,
    held_out: Rows | None = None,
) -> tuple[Tensor, float]:
    """Choose the penalty on the training rows, refit on all of them, score the test rows.

    Returns:
        (N_test, num_classes) float64 logits, on the device of the features, and the chosen penalty.

    Raises:
        VidsslError: for training rows that are not finite, or when no class has two rows (of two groups).
    """
    require_finite("linear probe", train_features)
    l2 = choose_l2(
        train_features, train_labels, num_classes, groups=groups, grid=grid, seed=seed, held_out=held_out
    )
    return fit_logistic(train_features, train_labels, num_classes, l2)(test_features), l2
