"""A CLIP model small enough for a test, saved as the folder that ``local-dir:`` names."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from vidssl.models.encoder import VideoEncoder

TINY_CONFIG: dict[str, Any] = {
    "embed_dim": 32,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 64,
        "layers": 2,
        "head_width": 32,
    },
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def tiny_config(**vision: Any) -> dict[str, Any]:
    """The tiny config with changes to its image tower."""
    config = copy.deepcopy(TINY_CONFIG)
    config["vision_cfg"].update(vision)
    return config


def write_tiny_clip(
    folder: Path, config: dict[str, Any] | None = None, seed: int = 0, **preprocess: Any
) -> Path:
    """Write config and weights of open_clip's own model with every parameter away from its initial value."""
    import open_clip

    config = copy.deepcopy(config or TINY_CONFIG)
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
            model.logit_scale.fill_(math.log(100.0))
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}), encoding="utf-8"
    )
    save_file(
        {key: value.contiguous() for key, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


def trained_and_initial(folder: Path) -> tuple[VideoEncoder, VideoEncoder]:
    """An encoder after a make-believe training, and the one it started from."""
    import vidssl

    initial = vidssl.create_model(f"local-dir:{folder}").eval()
    trained = copy.deepcopy(initial)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return trained, initial
