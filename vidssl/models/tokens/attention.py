"""What attention over time can start from: the attention within frames of a block of open_clip or timm."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError


class AttentionWeights(NamedTuple):
    """Of a block's attention within frames: in (3 W, W), its bias (3 W,), out, heads, and the norm before it."""

    weight: Tensor
    bias: Tensor
    out: nn.Linear
    heads: int
    norm: nn.Module | None


def attention_weights(block: Any, copied: bool = True) -> AttentionWeights:
    """What attention over time starts from, of a block of open_clip or timm; the norm is None where it comes after.

    Raises:
        VidsslError: for attention to be copied whose queries, keys and values are not as wide as the tokens.
    """
    attention = block.attn
    if hasattr(attention, "in_proj_weight"):
        weight, bias, out = attention.in_proj_weight, attention.in_proj_bias, attention.out_proj
        norm = block.ln_1
    else:
        from timm.models.eva import EvaBlockPostNorm
        from timm.models.vision_transformer import ResPostBlock
        from timm.models.vision_transformer_relpos import ResPostRelPosBlock

        weight, bias, out = *_timm_projection(attention), attention.proj
        behind = isinstance(block, EvaBlockPostNorm | ResPostBlock | ResPostRelPosBlock)
        norm = None if behind else block.norm1
    width = out.out_features
    if copied and tuple(weight.shape) != (3 * width, width):
        raise VidsslError(
            "create_model: temporal_init: 'copy': the attention of this tower is not as wide as its tokens; take 'random'"
        )
    return AttentionWeights(
        weight, weight.new_zeros(3 * width) if bias is None else bias, out, attention.num_heads, norm
    )


def _timm_projection(attention: Any) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of queries, keys and values, one below the other."""
    if attention.qkv is None:
        parts = [attention.q_proj, attention.k_proj, attention.v_proj]
        biases = [x.weight.new_zeros(len(x.weight)) if x.bias is None else x.bias for x in parts]
        return torch.cat([x.weight for x in parts]), torch.cat(biases)
    if getattr(attention, "q_bias", None) is not None:
        return attention.qkv.weight, torch.cat([attention.q_bias, attention.k_bias, attention.v_bias])
    return attention.qkv.weight, attention.qkv.bias
