"""Few labels: some training videos of each class, drawn several times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vidssl.errors import counted


def chosen_rows(labels: Tensor, usable: Tensor, shots: int, generator: np.random.Generator) -> Tensor:
    """Row numbers, ascending, of `shots` usable rows of each class, or of all of a class that has fewer.

    A row that cannot be used is passed over, and changes nothing else: encoders that can use different rows share all others.

    Args:
        labels: (N,). usable: (N,) bool.
    """
    chosen = []
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0].numpy()
        drawn = rows[generator.permutation(len(rows))]
        chosen.append(drawn[usable[drawn].numpy()][:shots])
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


def few_shot_notes(videos: Tensor, names: Sequence[str], shots: int) -> list[str]:
    """Lines about classes that have fewer videos than are drawn, and about draws that are all the same for it.

    Args:
        videos: (K,) training videos of each class that can be used. names: of the classes.
    """
    fewer = [f"{name} ({n})" for name, n in zip(names, videos.tolist(), strict=True) if n < shots]
    notes = []
    if fewer:
        more = ", …" if len(fewer) > 5 else ""
        have = f"{counted(len(fewer), 'class')} {'has' if len(fewer) == 1 else 'have'} fewer training videos"
        notes.append(f"{shots} shots: {have}, all of which are taken: {', '.join(fewer[:5])}{more}")
    if int(videos.max()) <= shots:
        notes.append(
            f"{shots} shots: no class has more, so that all draws are the same videos and do not differ"
        )
    return notes
