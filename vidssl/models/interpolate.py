"""Weights between two encoders of one architecture: WiSE-FT (Wortsman et al. 2022, arXiv 2109.01903).

Between an image CLIP and what training on videos made of it lies an encoder that often keeps more of the former's
generality than the trained one, at no cost in inference.

    >>> half = interpolate(vidssl.load("runs/lss"), vidssl.load("runs/lss/initial"), 0.5)
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.weights import mismatch

# Options that change no feature.
_HARMLESS = ("activation_checkpointing", "temporal_init", "token_drop")


def interpolate(trained: VideoEncoder, other: VideoEncoder, alpha: float) -> VideoEncoder:
    """alpha · trained + (1 - alpha) · other, weight by weight.

    Args:
        trained: one end; the result has its class, options and text tower.
        other: the other end, such as the encoder that training started from. It may be the plain image CLIP
            (``temporal="none"``): attention over time, which it lacks, counts as the zero that it starts from.
        alpha: share of `trained`, in [0, 1]: 1 gives its weights exactly, 0 those of `other`.

    Returns:
        A new encoder in evaluation mode; neither end is changed. Running statistics of batch norms are interpolated too,
        counters are those of `trained`.

    Raises:
        VidsslError: for an alpha outside, text towers or options that differ, or weights whose keys or shapes do.
    """
    if not 0 <= alpha <= 1:
        raise VidsslError(f"interpolate: alpha {alpha}: must be in [0, 1]")
    _check_same(trained, other)
    own = trained.state_dict()
    given = _with_zero_start(own, trained, other)
    difference = mismatch(own, given)
    if difference:
        raise VidsslError(f"interpolate: the weights of the two encoders differ: {difference}")
    mixed = copy.deepcopy(trained)
    weights = {
        name: torch.lerp(given[name].to(x), x, alpha) if x.is_floating_point() else x
        for name, x in own.items()
    }
    mixed.load_state_dict(weights)
    mixed.spec = {**trained.spec, "interpolated": {"alpha": alpha}}
    return mixed.eval()


def _with_zero_start(
    own: Mapping[str, Tensor], trained: VideoEncoder, other: VideoEncoder
) -> dict[str, Tensor]:
    """The other end's tensors. What it does not have over time is that of `trained` behind an output map of
    zero, and without a time embedding: it then adds nothing, which is what it would start as."""
    given = dict(other.state_dict())
    if trained.spec.get("temporal") != "none" and other.spec.get("temporal") == "none":
        for name, tensor in own.items():
            if name == "time_embedding" or (name.startswith("temporal") and ".fc." in name):
                given.setdefault(name, torch.zeros_like(tensor))
            elif name.startswith("temporal"):
                given.setdefault(name, tensor)
    return given


def _check_same(trained: VideoEncoder, other: VideoEncoder) -> None:
    first, second = _meaning(trained), _meaning(other)
    both = [key for key in first if key in second]
    different = [f"{key} {first[key]!r} and {second[key]!r}" for key in both if first[key] != second[key]]
    if different:
        raise VidsslError(f"interpolate: the two encoders differ in {'; '.join(different)}")
    texts = [encoder.text.fingerprint[:12] for encoder in (trained, other) if encoder.text is not None]
    if len(set(texts)) > 1:
        raise VidsslError(f"interpolate: the text towers differ ({texts[0]} and {texts[1]})")


def _meaning(encoder: VideoEncoder) -> dict[str, Any]:
    """What a weight of a given name and shape depends on for its meaning."""
    spec = encoder.spec
    options = {key: value for key, value in spec.get("options", {}).items() if key not in _HARMLESS}
    if spec.get("temporal") == "none":  # options of an attention that is not there
        options = {}
    else:  # weights of several modes have the same names and shapes
        options["temporal"] = spec.get("temporal")
    config = spec.get("model_cfg", {})
    named = {"family": spec.get("family"), "mean": list(encoder.mean), "std": list(encoder.std)}
    return {**named, "quick_gelu": bool(config.get("quick_gelu", False)), **options}
