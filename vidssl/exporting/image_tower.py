"""The image tower of a video encoder by itself, as the mean over frames that training began with."""

from __future__ import annotations

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import build_from_spec
from vidssl.models.weights import load_strict

_TOWER = "visual."
# What a tower by itself cannot have of the options of its encoder.
_OF_TIME = {"cls_mode": "per_frame", "causal": False}


def image_tower(encoder: VideoEncoder) -> VideoEncoder:
    """The same image tower with its weights and text tower, and nothing that learns of time.

    Raises:
        VidsslError: for a network that has no image tower.
    """
    spec = encoder.spec
    if spec.get("temporal") is None:
        raise VidsslError(f"--image-tower: {spec['name']} is a video network without an image tower")
    options = spec.get("options", {})
    options = {key: _OF_TIME.get(key, value) for key, value in options.items()}
    alone = build_from_spec({**spec, "temporal": "none", "options": options}, text=False)
    tensors = {key: value for key, value in encoder.state_dict().items() if key.startswith(_TOWER)}
    load_strict(alone, tensors, f"{spec['name']}: image tower")
    alone.text = encoder.text
    return alone.eval().requires_grad_(False)
