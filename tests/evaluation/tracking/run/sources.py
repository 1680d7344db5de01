"""Features for tests that cost nothing: colours of cells, averaged; and ways to break them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.evaluation.tracking.run.sources import ENCODER, PIXELS, RANDOM, Source, Sources

CPU = torch.device("cpu")
GREY = (0.5, 0.5, 0.5)


def colours(frames: Tensor, stride: int = 4) -> Tensor:
    """(T, 3 · 4, h, w): a cell's colours in two by two parts, less their mean."""
    padded = F.pad(frames, (0, -frames.shape[-1] % stride, 0, -frames.shape[-2] % stride), mode="replicate")
    parts = F.pixel_unshuffle(F.avg_pool2d(padded, stride // 2), 2)
    return parts - parts.mean(1, keepdim=True)


def constant(frames: Tensor, stride: int = 4) -> Tensor:
    """The same everywhere: tells nothing."""
    return torch.ones_like(colours(frames, stride))


def broken(frames: Tensor, stride: int = 4) -> Tensor:
    """NaN in one place."""
    features = colours(frames, stride).clone()
    features[-1, 0, 0, 0] = torch.nan
    return features


def source(name: str = ENCODER, features=colours, before: int = 0) -> Source:
    return Source(name, features, stride=4, dim=12, before=before, colour=GREY, device=CPU)


def three(encoder=colours) -> Sources:
    """An encoder, a random one that knows nothing, and pixels."""
    rows = (source(features=encoder), source(RANDOM, constant), source(PIXELS))
    return Sources(rows, {"family": "test"}, layer=3)
