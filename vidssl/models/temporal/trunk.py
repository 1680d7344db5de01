"""The image tower of an encoder without what learns of time: which weights are which, and what tells one tower from another."""

from __future__ import annotations

import hashlib
import json

import torch

from vidssl.models.encoder import VideoEncoder


def is_temporal(name: str) -> bool:
    """Whether an encoder parameter belongs to what was added to the image model."""
    return "temporal" in name or "time_embed" in name


def trunk_digest(encoder: VideoEncoder) -> str:
    """SHA-256 (hex) over the weights and buffers of an encoder's image tower and the colours that it takes.

    Neither what learns of time behind it nor a text tower counts: features of single frames depend on none of them.
    """
    found = hashlib.sha256(json.dumps([encoder.mean, encoder.std]).encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        if not is_temporal(name):
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)};".encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()
