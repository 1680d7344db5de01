"""How far training went from the weights it began with: in the weights, by part, and in what the features say."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.evaluation.geometry.measure import number
from vidssl.objectives.diagnostics import linear_cka

_PART = re.compile(r"^(?:[^.\d]+\.)*\d+|^[^.]+")


def weight_drift(trained: nn.Module, start: nn.Module) -> dict[str, Any]:
    """‖w - w0‖ / ‖w0‖ over all parameters, and by part: names up to their first number, or their first word.

    Parameters that only one has, such as layers that training added, are counted in `new` and no part of it.
    """
    ours, theirs = (dict(module.named_parameters()) for module in (trained, start))
    shared = [name for name, x in ours.items() if name in theirs and theirs[name].shape == x.shape]
    moved: dict[str, list[float]] = {}
    for name in shared:
        own, was = ours[name].detach().double(), theirs[name].detach().double().to(ours[name].device)
        found = _PART.match(name)
        sums = moved.setdefault(found.group() if found else name, [0.0, 0.0])
        sums[0] += (own - was).square().sum().item()
        sums[1] += was.square().sum().item()
    totals = [sum(sums[k] for sums in moved.values()) for k in (0, 1)]
    return {
        "relative": _ratio(*totals),
        "parts": {name: _ratio(*sums) for name, sums in moved.items()},
        "new": sorted(ours.keys() ^ theirs.keys() | (ours.keys() & theirs.keys()) - set(shared)),
    }


def feature_drift(trained: Tensor, start: Tensor) -> dict[str, float | None]:
    """Features (N, D) of the same videos before and after: `cka`, what a rotation and a scale would leave at 1, and `cosine`, the mean
    cosine between both of a video, which they would not."""
    if len(trained) < 4:
        return {"cka": None, "cosine": None}
    cosine = (
        nn.functional.cosine_similarity(trained.double(), start.double(), dim=1).mean()
        if trained.shape == start.shape
        else torch.tensor(math.nan)
    )
    return {"cka": number(linear_cka(trained.double(), start.double())), "cosine": number(cosine)}


def _ratio(moved: float, was: float) -> float | None:
    return number(math.sqrt(moved / was)) if was > 0 else None
