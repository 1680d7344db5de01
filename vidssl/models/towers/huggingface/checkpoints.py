"""Weights of VideoMAE's, TimeSformer's and SVT's own training programs as transformers names them, and the architectures they are of.

VideoMAE: github.com/MCG-NJU/VideoMAE (modeling_pretrain.py, modeling_finetune.py). TimeSformer: github.com/facebookresearch/TimeSformer
(vit.py); SVT (Ranasinghe et al. 2022, arXiv 2112.01514) trains the same network, github.com/kahnchana/svt.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vidssl.models.towers.training import patterns

# By (width, layers, heads) of those programs.
_SIZES = {"small": (384, 12, 6), "base": (768, 12, 12), "large": (1024, 24, 16), "huge": (1280, 32, 16)}


def _config(kind: str, size: str, **more: Any) -> dict[str, Any]:
    width, layers, heads = _SIZES[size]
    return {
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 4 * width,
        "layer_norm_eps": 1e-6,
        "image_size": 224,
        "patch_size": 16,
        **more,
    }


ARCHITECTURES = {
    **{
        f"videomae-{size}": _config("videomae", size, num_frames=16, use_mean_pooling=False)
        for size in _SIZES
    },
    "timesformer-base": _config("timesformer", "base", num_frames=8),
    "svt-base": _config("timesformer", "base", num_frames=8),
}
TRAINED = ("videomae", "timesformer")  # whose names are known
_NAMES = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^time_embed$", "embeddings.time_embeddings"),
    (r"^norm\.", "layernorm."),
    (r"^head\.", "classifier."),
    (r"^blocks\.", "encoder.layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.temporal_norm1\.", ".temporal_layernorm."),
    (r"\.temporal_fc\.", ".temporal_dense."),
    (r"\.(temporal_)?attn\.proj\.", r".\1attention.output.dense."),
    (r"\.(temporal_)?attn\.", r".\1attention.attention."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)


def are_of_training(tensors: Mapping[str, Tensor]) -> bool:
    """Whether weights have the names of those programs."""
    return "patch_embed.proj.weight" in tensors


def renamed(tensors: Mapping[str, Tensor], kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Weights by the names of transformers, and what became of which name, with numbers of blocks as ``*``.

    Args:
        tensors: by the names of the training program.
        kind: ``"videomae"``, whose joint map to queries, keys and values becomes three, or ``"timesformer"``.
    """
    found: dict[str, Tensor] = {}
    mapped: dict[str, str] = {}
    for theirs, value in tensors.items():
        ours = theirs
        for pattern, name in _NAMES:
            ours = re.sub(pattern, name, ours)
        if kind == "videomae" and ours.endswith(".qkv.weight"):
            parts = [ours.replace(".qkv.", f".{part}.") for part in ("query", "key", "value")]
            found |= dict(zip(parts, value.chunk(3), strict=True))
        else:
            parts = [ours]
            found[ours] = value
        mapped[patterns([theirs])[0]] = ", ".join(patterns(parts))
    return found, mapped


def configured(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """One of `ARCHITECTURES` as weights of transformers' names say: how long clips are, and whether it was finetuned."""
    changed = dict(config)
    if "embeddings.time_embeddings" in tensors:
        changed["num_frames"] = tensors["embeddings.time_embeddings"].shape[1]
    if config["model_type"] == "videomae":
        changed["use_mean_pooling"] = "fc_norm.weight" in tensors
    return changed
