"""open_clip's plain CLIP as transformers' `CLIPModel`: the same function under other names.

What decides that it is the same is the check of every export; here is only refused, by name, what CLIPModel has no place for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.sources import flat_config
from vidssl.models.towers.text import TextEncoder
from vidssl.models.weights import load_strict

# Fields of open_clip's config that CLIPModel has too. In all others it is as open_clip's are where a config does not say.
_SIZES = ("layers", "width", "head_width", "mlp_ratio", "patch_size", "image_size")
_TEXT_SIZES = ("layers", "width", "heads", "mlp_ratio", "context_length", "vocab_size")
_IGNORED = ("hf_tokenizer_name", "tokenizer_mode", "tokenizer_kwargs", "timm_pool", "timm_proj", "timm_proj_bias", "hf_proj_type",
            "hf_pooler_type", "attn_pooler_queries", "attn_pooler_heads")  # fmt: skip
_VISION = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1": "embeddings.patch_embedding",
    "ln_pre": "pre_layrnorm",
    "ln_post": "post_layernorm",
}
_TEXT = {
    "token_embedding": "embeddings.token_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final": "final_layer_norm",
}
_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}


def require_clip(encoder: VideoEncoder) -> None:
    """Insist that an image tower of open_clip is one that CLIPModel can be.

    Raises:
        VidsslError: naming the field of its config.
    """
    if differing := _differing(encoder, "vision_cfg", _SIZES):
        raise VidsslError(
            f"{encoder.spec['name']}: transformers has no such model: CLIP there has no place for {differing} (allowed: open_clip's "
            "plain vision transformers, timm/NAME and transformers/NAME; torch-export and onnx take this one too)"
        )


def no_place_for_text(encoder: VideoEncoder) -> str | None:
    """What of the text tower CLIPModel has no place for; None where it takes it."""
    text = encoder.text
    if not isinstance(text, TextEncoder):
        return "no text tower"
    if text.logit_bias is not None:
        return "logit_bias"
    return _differing(encoder, "text_cfg", _TEXT_SIZES)


def as_clip(encoder: VideoEncoder) -> nn.Module:
    """`CLIPModel`, or `CLIPVisionModelWithProjection` where it has no place for the text tower.

    Raises:
        VidsslError: when a weight has no place, or a place no weight.
    """
    import transformers

    library: Any = transformers
    flat = flat_config(encoder.spec["model_cfg"])
    dim, act = flat["embed_dim"], "quick_gelu" if flat["quick_gelu"] else "gelu"
    width = flat["vision_cfg.width"]
    size = flat["vision_cfg.image_size"]
    vision = library.CLIPVisionConfig(
        hidden_size=width,
        intermediate_size=int(width * flat["vision_cfg.mlp_ratio"]),
        num_hidden_layers=flat["vision_cfg.layers"],
        num_attention_heads=width // flat["vision_cfg.head_width"],
        image_size=size if isinstance(size, int) else size[0],
        patch_size=flat["vision_cfg.patch_size"],
        projection_dim=dim,
        hidden_act=act,
    )
    tower = {
        key.removeprefix("visual."): value
        for key, value in encoder.state_dict().items()
        if key.startswith("visual.")
    }
    projection = {"visual_projection.weight": tower.pop("proj").T}
    tensors = projection | _renamed(tower, "vision_model.", _VISION)
    if no_place_for_text(encoder):
        model = _blank(library.CLIPVisionModelWithProjection, vision)
    else:
        text = encoder.text
        assert isinstance(text, TextEncoder)
        own = text.state_dict()
        tensors["text_projection.weight"] = own.pop("text_projection").T
        tensors["logit_scale"] = torch.tensor(text.logit_scale)
        tensors |= _renamed(own, "text_model.", _TEXT)
        ids = _special_tokens(text)
        words = library.CLIPTextConfig(
            vocab_size=flat["text_cfg.vocab_size"],
            hidden_size=flat["text_cfg.width"],
            intermediate_size=int(flat["text_cfg.width"] * flat["text_cfg.mlp_ratio"]),
            num_hidden_layers=flat["text_cfg.layers"],
            num_attention_heads=flat["text_cfg.heads"],
            max_position_embeddings=flat["text_cfg.context_length"],
            projection_dim=dim,
            hidden_act=act,
            **ids,
        )
        both = library.CLIPConfig(
            text_config=words.to_dict(), vision_config=vision.to_dict(), projection_dim=dim, **ids
        )
        model = _blank(library.CLIPModel, both)
    load_strict(model, tensors, f"{encoder.spec['name']}: as CLIP of transformers")
    return model.eval()


def clip_tokenizer(text: TextEncoder) -> Any:
    """The tokenizer of open_clip's plain text tower, as transformers has it."""
    from transformers import CLIPTokenizer

    if text.tokenizer_spec["kind"] == "transformers":
        return text.tokenizer.tokenizer
    own = text.tokenizer
    names = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    words = {names.get(word, word): number for word, number in own.encoder.items()}
    return CLIPTokenizer(vocab=words, merges=list(own.bpe_ranks), model_max_length=text.context_length)


def _special_tokens(text: TextEncoder) -> dict[str, int]:
    tokenizer = clip_tokenizer(text)
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def _differing(encoder: VideoEncoder, section: str, sizes: tuple[str, ...]) -> str | None:
    """The first field of a section, beside sizes, that is not as open_clip has it by itself."""
    plain = flat_config({"embed_dim": 1, "vision_cfg": {}, "text_cfg": {}})
    own = flat_config(encoder.spec["model_cfg"])
    for key, value in own.items():
        field = key.removeprefix(f"{section}.")
        several = isinstance(value, list) and field != "image_size"  # stages of a ResNet
        allowed = field in (*sizes, *_IGNORED) and not several
        if field != key and not allowed and value != plain[key]:
            return f"{key}={value!r}"
    return None


def _renamed(tensors: Mapping[str, Tensor], prefix: str, names: Mapping[str, str]) -> dict[str, Tensor]:
    """open_clip's names -> those of a tower of CLIPModel; names that it does not have stay, and will not fit."""
    renamed: dict[str, Tensor] = {}
    for key, value in tensors.items():
        block = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", key)
        if block is None:
            renamed[prefix + _replaced(key, names)] = value
            continue
        inside = f"{prefix}encoder.layers.{block[1]}."
        if block[2].startswith("attn.in_proj_"):
            kind = block[2].removeprefix("attn.in_proj_")
            for name, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"{inside}self_attn.{name}_proj.{kind}"] = part
        else:
            renamed[inside + _replaced(block[2], _BLOCK)] = value
    return renamed


def _replaced(key: str, names: Mapping[str, str]) -> str:
    if key in names:
        return names[key]
    module, _, kind = key.rpartition(".")
    return f"{names.get(module, module)}.{kind}"


def _blank(model: Any, config: Any) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = model(config)
    return made
