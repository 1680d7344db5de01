"""Where features come from: the encoder under test, and the others that keep its number honest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.devices import find_device
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import build_from_spec
from vidssl.models.load import load_encoder
from vidssl.models.patches import PatchFeatures, RawPixels
from vidssl.models.patches.pixels import MEAN
from vidssl.runs import find_initial

Colour = tuple[float, float, float]
ENCODER, UNTRAINED, RANDOM, PIXELS, COPY = (
    "encoder",
    "untrained",
    "random weights",
    "raw pixels",
    "first label copied",
)


@dataclass(frozen=True)
class Source:
    """One way to make features of frames.

    Attributes:
        name: its row in the table.
        features: (T, 3, H, W) RGB in [0, 1] -> (T, D, h, w).
        stride: pixels per cell. dim: D.
        before: how many frames before a frame its features depend on.
        colour: RGB that its normalisation takes for nothing.
        device: where it works.
    """

    name: str
    features: Callable[[Tensor], Tensor]
    stride: int
    dim: int
    before: int
    colour: Colour
    device: torch.device


@dataclass(frozen=True)
class Sources:
    """The encoder under test and what stands beside it.

    Attributes:
        rows: in the order of the table, the encoder first. spec: of the encoder. layer: whose features, counted from 0.
    """

    rows: tuple[Source, ...]
    spec: dict[str, Any]
    layer: int


def load_sources(checkpoint: str | Path, options: TrackOptions) -> Sources:
    """The encoder that `checkpoint` names, the one its run started from (where that is kept), the same architecture with random
    weights, and raw pixels in cells of the same size.

    Raises:
        VidsslError: for anything that names no encoder, a layer, stride or mode that it does not have, or a device that is not there.
    """
    device = find_device(options.device)
    encoder, initial = load_encoder(checkpoint), find_initial(Path(checkpoint))
    encoders = {ENCODER: encoder}
    if initial is not None:
        encoders[UNTRAINED] = load_encoder(initial)
    encoders[RANDOM] = random_twin(encoder, options.seed)
    rows, layer = [], 0
    for name, one in encoders.items():
        patches = PatchFeatures(one.to(device), layer=options.layer, stride=options.stride, mode=options.mode)
        before = patches.frames - 1 if options.mode == "window" else 0
        rows.append(Source(name, patches, patches.stride, patches.dim, before, one.mean, device))
        layer = patches.layer
    pixels = RawPixels(rows[0].stride)
    rows.append(Source(PIXELS, pixels, pixels.stride, pixels.dim, 0, (MEAN, MEAN, MEAN), device))
    return Sources(tuple(rows), dict(encoder.spec), layer)


def random_twin(encoder: VideoEncoder, seed: int = 0) -> VideoEncoder:
    """An encoder of the same architecture with random weights, in evaluation mode; torch's default generator is left alone.

    Its weights are not those that `load_encoder` draws for a name without any.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1 + seed)
        return build_from_spec(encoder.spec, text=False).eval()


def require_finite(source: Source, features: Tensor, name: str) -> Tensor:
    """The features, if all of them are finite.

    Raises:
        NotFinite: naming source and sequence.
    """
    if not bool(features.isfinite().all()):
        raise NotFiniteError(f"{name}: features of {source.name} are not finite")
    return features


class NotFiniteError(VidsslError):
    """Features that are not finite: counts against their source, not against the sequence."""
