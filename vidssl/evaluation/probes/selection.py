"""Which setting of a grid is taken, by which videos it is chosen, and what has to be said of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

SELECT = ("train", "val")


class Setting(NamedTuple):
    """Of one head: the rate of its first step, and its weight decay."""

    rate: float
    decay: float


def cross_entropies(logits: Tensor, labels: Tensor) -> Tensor:
    """(H, N) float64 of (H, N, K) logits and (N,) labels."""
    labels = labels.to(logits.device).expand(len(logits), -1)
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="none").double()


def best_head(logits: Tensor, labels: Tensor) -> int:
    """The head of the lowest cross-entropy, of (H, N, K) logits; one that diverged never is."""
    losses = cross_entropies(logits, labels).mean(1)
    return int(losses.nan_to_num(nan=math.inf).argmin())


def edge_note(title: str, name: str, value: float, grid: Sequence[float]) -> list[str]:
    """A line where what was chosen lies at the edge of its grid."""
    if value not in (min(grid), max(grid)):
        return []
    return [
        f"{title}: the {name}, {value:g}, lies at the edge of the grid, {min(grid):g} to {max(grid):g}; a better one may lie outside"
    ]


def selection_notes(select: str) -> list[str]:
    """A warning where the settings were chosen on the test videos."""
    if select == "train":
        return []
    return [
        "WARNING: the settings were chosen on the test videos themselves (--select val): these scores are too good, and "
        "comparable only with others that were chosen so"
    ]
