"""Few labels: some training videos of each class, drawn several times."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor


def chosen_rows(labels: Tensor, shots: int, generator: np.random.Generator) -> Tensor:
    """Row numbers, ascending, of `shots` rows of each class, or of all of a class that has fewer."""
    chosen = []
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0].numpy()
        chosen.append(rows[generator.permutation(len(rows))[:shots]])
    return torch.from_numpy(np.sort(np.concatenate(chosen)))


def few_shot_score(right: Tensor) -> dict[str, Any]:
    """Accuracy over S draws of the training videos from (S, N) bool, where each was right.

    Returns:
        `top1`, the mean over draws; `top1_std` over them (ddof 1; of one draw None); `top1_draws`, each.
    """
    draws = right.double().mean(dim=1)
    std = draws.std().item() if len(draws) > 1 else None
    return {
        "top1": draws.mean().item(),
        "top1_std": std,
        "top1_draws": draws.tolist(),
        "total": right.shape[1],
    }
