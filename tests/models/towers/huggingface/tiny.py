"""Tiny models of transformers, each number in them drawn, as `save_pretrained` writes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

SMALL: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 16,
    "patch_size": 8,
}
TEXT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 99,
    "max_position_embeddings": 12,
    "eos_token_id": 2,
}
DINO = SMALL | {"mlp_ratio": 2}
BOTH: dict[str, Any] = {"text_config": TEXT, "vision_config": SMALL}
CONFIGS: dict[str, dict[str, Any]] = {
    "CLIPVision": SMALL | {"projection_dim": 16},
    "CLIP": BOTH | {"projection_dim": 16},
    "SiglipVision": SMALL,
    "Siglip2Vision": {key: value for key, value in SMALL.items() if key != "image_size"} | {"num_patches": 4},
    "Siglip2": {
        "text_config": TEXT | {"projection_size": 24},
        "vision_config": {key: value for key, value in SMALL.items() if key != "image_size"}
        | {"num_patches": 4},
    },
    "Siglip": {"text_config": TEXT | {"projection_size": 24}, "vision_config": SMALL},
    "Dinov2WithRegisters": DINO | {"num_register_tokens": 2},
    "Dinov2": DINO,
    "DINOv3ViT": SMALL | {"num_register_tokens": 2},
    "DINOv3ConvNext": {"hidden_sizes": [8, 12, 16, 24], "depths": [1, 1, 1, 1], "image_size": 64},
    "VideoMAE": SMALL | {"num_frames": 4, "tubelet_size": 2},
    "Timesformer": SMALL | {"num_frames": 4},
    "Vivit": SMALL | {"num_frames": 4, "tubelet_size": [2, 8, 8]},
    "VJEPA2": {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "mlp_ratio": 2.0,
        "crop_size": 16,
        "patch_size": 8,
        "frames_per_clip": 4,
        "tubelet_size": 2,
        "pred_hidden_size": 12,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 2,
        "num_pooler_layers": 1,
    },
    "XCLIP": {
        "projection_dim": 16,
        "prompt_layers": 1,
        "prompt_num_attention_heads": 2,
        "text_config": TEXT,
        "vision_config": SMALL
        | {
            "num_frames": 4,
            "mit_hidden_size": 16,
            "mit_intermediate_size": 32,
            "mit_num_hidden_layers": 1,
            "mit_num_attention_heads": 2,
        },
    },
}


def tiny(name: str, folder: Path, family: str | None = None, **changes: Any) -> Any:
    """A model of transformers by the name of its class, in evaluation mode, saved in a folder.

    Args:
        name: such as ``"VideoMAEForVideoClassification"``.
        family: which of `CONFIGS` it takes, by default the one its name begins with.
        changes: of the config.
    """
    import transformers

    family = family or next(known for known in CONFIGS if name.startswith(known))
    config = getattr(transformers, f"{family}Config")(**{**CONFIGS[family], **changes})
    torch.manual_seed(1)
    model = getattr(transformers, name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
    model.save_pretrained(folder)
    return model


def full(name: str, folder: Path) -> Any:
    """A model of transformers of the size that its config has by itself, as it is initialised, saved in a folder."""
    import transformers

    family = next(known for known in CONFIGS if name.startswith(known))
    torch.manual_seed(1)
    model = getattr(transformers, name)(getattr(transformers, f"{family}Config")()).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if key.endswith("bias"):  # which start as zeros, and would hide that they are lost
                parameter.copy_(torch.randn_like(parameter) * 0.02)
    model.save_pretrained(folder)
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
