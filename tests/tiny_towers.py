"""Image towers of every structure that open_clip's configs have, small enough for a test."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from timm.models.vision_transformer_relpos import ResPostRelPosBlock
from torch import nn

from tests.tiny_clip import tiny_config, write_tiny_clip

SIZE: dict[str, Any] = {"img_size": 32, "embed_dim": 64, "depth": 2, "num_heads": 2}
NORM = partial(nn.LayerNorm, eps=1e-5)
VIT, RELATIVE, EVA = "VisionTransformer", "VisionTransformerRelPos", "Eva"
# Class of timm, what it is called with, pool and projection of the open_clip config.
TRUNKS: dict[str, tuple[str, dict[str, Any], str, str | None]] = {
    "siglip": (VIT, {"patch_size": 8, "class_token": False}, "map", "none"),
    "mobileclip": (VIT, {"patch_size": 1, "no_embed_class": True}, "token", None),  # behind convolutions
    "registers": (VIT, {"patch_size": 8, "reg_tokens": 4, "no_embed_class": True, "init_values": 0.1}, "avg", None),
    "average": (VIT, {"patch_size": 8, "class_token": False, "qkv_bias": False, "global_pool": "avg"}, "", "linear"),
    "relative": (RELATIVE, {"patch_size": 8, "class_token": True, "rel_pos_dim": 8}, "avg", "linear"),
    "relative post norm": (
        RELATIVE,
        {"patch_size": 8, "rel_pos_dim": 8, "block_fn": ResPostRelPosBlock, "shared_rel_pos": True},
        "avg", "linear",
    ),
    "eva02": (
        EVA,
        {"patch_size": 8, "qkv_fused": False, "swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True,
         "use_rot_pos_emb": True, "ref_feat_shape": (4, 4)},
        "token", None,
    ),
    "eva post norm": (EVA, {"patch_size": 8, "use_post_norm": True}, "token", None),
    "pe": (
        EVA,
        {"patch_size": 8, "attn_type": "rope", "use_pre_transformer_norm": True, "use_rot_pos_emb": True,
         "ref_feat_shape": (4, 4), "rope_grid_offset": 1.0, "rope_grid_indexing": "xy", "norm_layer": NORM},
        "map", None,
    ),
    "mixed rotary": (
        EVA,
        {"patch_size": 8, "attn_type": "rope", "use_abs_pos_emb": False, "use_rot_pos_emb": True,
         "rope_grid_indexing": "xy", "rope_temperature": 10.0, "rope_type": "mixed", "num_reg_tokens": 2},
        "token", None,
    ),
}  # fmt: skip
OWN: dict[str, dict[str, Any]] = {
    "open_clip": {},
    "open_clip average": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "open_clip attention pool": {"attentional_pool": True, "attn_pooler_heads": 2},
    "open_clip customised": {"scale_heads": True, "scale_attn": True, "qk_norm": True},
}
TRANSFORMERS = (*OWN, *TRUNKS)
OTHERS: dict[str, dict[str, Any]] = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
    "convnext": {"timm_model_name": "test_convnext", "timm_pool": "avg", "timm_proj": "linear"},
}


def _trunk(kind: str, pretrained: bool = False, pretrained_cfg: Any = None, **options: Any) -> nn.Module:
    """What timm's `create_model` calls."""
    from timm.layers import HybridEmbed
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_hybrid import ConvStem
    from timm.models.vision_transformer_relpos import VisionTransformerRelPos

    name, own, _, _ = TRUNKS[kind]
    options = {key: value for key, value in options.items() if key in ("num_classes", "global_pool")}
    if kind == "mobileclip":
        stem = ConvStem(depth=2, channels=(16, 64), kernel_size=(4, 2), stride=(4, 2), padding=0)
        own = {**own, "embed_layer": partial(HybridEmbed, backbone=stem, proj=False)}
    kinds: dict[str, Any] = {VIT: VisionTransformer, RELATIVE: VisionTransformerRelPos, EVA: Eva}
    trunk: nn.Module = kinds[name](**{**SIZE, **own, **options})
    trunk.default_cfg = {}  # type: ignore[assignment]
    return trunk


def tower_config(kind: str) -> dict[str, Any]:
    """An open_clip config with that image tower, for 32 pixels, and 32 numbers a feature."""
    if kind in OWN:
        return tiny_config(**OWN[kind])
    if kind in OTHERS:
        return tiny_config(**OTHERS[kind])
    from timm.models import _registry

    name = f"vidssl_{kind.replace(' ', '_')}"
    _registry._model_entrypoints.setdefault(name, partial(_trunk, kind))
    _, _, pool, projection = TRUNKS[kind]
    config = tiny_config(timm_model_name=name, timm_pool=pool, timm_proj=projection)
    return config | {"embed_dim": 64 if projection == "none" else 32}


def write_tower(folder: Path, kind: str) -> Path:
    """A folder for ``local-dir:`` with that image tower, every parameter away from its initial value."""
    return write_tiny_clip(folder, tower_config(kind)) if not folder.is_dir() else folder
