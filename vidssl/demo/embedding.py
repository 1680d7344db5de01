"""t-SNE: points in the plane whose neighbours are those of features (van der Maaten & Hinton 2008, JMLR 9:2579)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

STEPS, RATE = 500, 0.5
EARLY, EXAGGERATION = 150, 6.0  # steps in which the attraction is so many times stronger


def embed(features: Tensor, perplexity: float = 20.0) -> Tensor:
    """(N, 2) points for (N, D) features, for a few hundred of them.

    Features are standardised. The start is their two first principal components, so that the result is a function of
    the features alone.
    """
    x = (features - features.mean(dim=0)) / features.std(dim=0).clamp_min(1e-6)
    joint = _neighbours(torch.cdist(x, x).square().double(), perplexity)
    u, s, _ = torch.linalg.svd(x.double(), full_matrices=False)
    y = u[:, :2] * s[:2]
    y = (1e-2 * y / y.std()).requires_grad_()
    optimizer = torch.optim.Adam([y], lr=RATE)
    off = 1 - torch.eye(len(x), dtype=torch.float64)
    for step in range(STEPS):
        near = off / (1 + torch.cdist(y, y, compute_mode="donot_use_mm_for_euclid_dist").square())
        attraction = -(joint * near.clamp_min(1e-12).log()).sum() * (EXAGGERATION if step < EARLY else 1.0)
        loss = attraction + near.sum().log()  # KL(p, q) but for a constant
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    points: Tensor = y.detach().float()
    return points


def _neighbours(squares: Tensor, perplexity: float) -> Tensor:
    """(N, N) symmetric joint probabilities of neighbours; each row's bandwidth is the one with that perplexity."""
    squares = squares.clone().fill_diagonal_(math.inf)
    low, high = squares.new_full((len(squares), 1), -20.0), squares.new_full((len(squares), 1), 20.0)
    scale = squares[squares.isfinite()].mean()
    rows = squares
    for _ in range(50):  # bisection of the logarithm of the precision
        middle = (low + high) / 2
        rows = (-squares / scale * middle.exp()).softmax(dim=1)
        entropy = torch.special.entr(rows).sum(dim=1, keepdim=True)
        too_wide = entropy > math.log(perplexity)
        low, high = torch.where(too_wide, middle, low), torch.where(too_wide, high, middle)
    return (rows + rows.T) / (2 * len(rows))
