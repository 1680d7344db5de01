"""Multinomial logistic regression at its optimum, and the choice of its penalty on held-out training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.metrics import require_finite
from vidssl.evaluation.probes.holdout import grouped_split, stratified_split

L2_GRID = tuple(float(x) for x in np.logspace(-5, 2, 15))


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
) -> LogisticModel:
    """Minimise mean cross-entropy + l2/2 · ‖W‖² over standardised features (the bias is not penalised).

    Args:
        features: (N, D).
        labels: (N,) in [0, num_classes); a class may be absent.
        l2: at least 0.
        start: a solution for another `l2` of the same features to start from.
    """
    x, labels = features.double(), labels.to(features.device)
    mean, std = x.mean(0), x.std(0, unbiased=False)
    # A dimension that is constant up to rounding carries nothing; scaling it up would turn the rounding into a feature.
    constant = std <= 1e-7 * x.abs().amax(0).clamp(min=1e-30)
    std = torch.where(constant, torch.ones_like(std), std)
    x = (x - mean) / std
    x[:, constant] = 0
    weight = x.new_zeros(num_classes, x.shape[1]) if start is None else start.weight.clone()
    bias = x.new_zeros(num_classes) if start is None else start.bias.clone()
    weight.requires_grad_()
    bias.requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias],
        max_iter=max_iterations,
        history_size=20,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(x @ weight.T + bias, labels) + l2 / 2 * weight.square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        optimizer.step(closure)
    return LogisticModel(weight.detach(), bias.detach(), mean, std)


def choose_l2(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    groups: Tensor | None = None,
    grid: Sequence[float] = L2_GRID,
    seed: int = 0,
) -> float:
    """The penalty with the lowest cross-entropy on held-out fifths of the rows, in stratified splits.

    Cross-entropy rather than accuracy, because on a small set accuracy has many ties; for the same reason it is the mean
    over five splits below 2,000 rows, above them one is enough.

    Args:
        groups: see `grouped_split`; None: every row for itself.

    Raises:
        VidsslError: when no class has two rows, or groups, so that nothing can be held out.
    """
    generator = np.random.default_rng(seed)
    total = np.zeros(len(grid))
    for _ in range(5 if len(labels) < 2000 else 1):
        if groups is None:
            kept, out = stratified_split(labels.cpu(), 0.2, generator)
        else:
            kept, out = grouped_split(labels.cpu(), groups, 0.2, generator)
        if not len(out):
            what = "video" if groups is None else "group of videos"
            raise VidsslError(
                f"linear probe: every class has one readable training {what}; none can be held out"
            )
        # Weak penalties take the longest to fit and are never chosen once over-fitting has set in, so the rest counts
        # as infinitely bad once weakening it has hurt twice. Each fit starts from that of the next stronger penalty.
        losses = np.full(len(grid), np.inf)
        fit, fit_labels, test, test_labels = (
            rows[part.to(rows.device)] for part in (kept, out) for rows in (features, labels)
        )
        model, last, rises = None, np.inf, 0
        for position in np.argsort(grid)[::-1]:
            l2 = grid[position]
            model = fit_logistic(fit, fit_labels, num_classes, l2, model, max_iterations=100)
            losses[position] = F.cross_entropy(model(test), test_labels.to(test.device)).item()
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
) -> tuple[Tensor, float]:
    """Choose the penalty on the training rows, refit on all of them, score the test rows.

    Returns:
        (N_test, num_classes) float64 logits, on the device of the features, and the chosen penalty.

    Raises:
        VidsslError: for training rows that are not finite, or when no class has two rows (of two groups).
    """
    require_finite("linear probe", train_features)
    l2 = choose_l2(train_features, train_labels, num_classes, groups=groups, grid=grid, seed=seed)
    return fit_logistic(train_features, train_labels, num_classes, l2)(test_features), l2
