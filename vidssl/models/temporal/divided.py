"""Attention along time for a pre-norm image transformer (divided space-time attention).

Bertasius et al. 2021, "Is Space-Time Attention All You Need for Video Understanding?", arXiv 2102.05095. Each block
first lets tokens at the same place attend over the frames, then runs the image model's own block within each frame:

    X += fc( attention_over_time( norm(X) ) )        # fc is zero at the start
    X += attention_in_frame( ln_1(X) )
    X += mlp( ln_2(X) )

Because `fc` starts at zero in every block, the video model starts as the image model (to the rounding of float32, see `output`).
"""

from __future__ import annotations

import copy
import math
from typing import Any, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidssl.models.temporal.output import OutputMap
from vidssl.models.tokens.attention import attention_weights

# CUDA attention kernels put the batch on a grid axis that holds at most 65,535 blocks, and here every patch of every
# clip is a row of that batch.
MAX_SEQUENCES = 65_535


class TemporalAttention(nn.Module):
    """The temporal residual of one block: norm, multi-head attention along time, a linear map that starts at zero.

    Args:
        width: W, size of a token.
        heads: number of attention heads; divides `width`.
        norm: LayerNorm of the block, copied; a fresh one by default.
        time_signal: add `sinusoids` to what attends. Without it attention over time is blind to the order of frames
            until the time embedding has grown from zero, which it does slowly because neither it nor the zero output
            map gains anything while the other is zero. Behind that map the signal changes nothing at the start.
        causal: a frame attends to itself and earlier frames only.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        norm: nn.Module | None = None,
        time_signal: bool = False,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.time_signal = time_signal
        self.causal = causal
        self.norm = nn.LayerNorm(width) if norm is None else copy.deepcopy(norm)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.fc = OutputMap(width, width)
        for linear in (self.qkv, self.out):
            nn.init.trunc_normal_(linear.weight, std=0.02)
            nn.init.zeros_(linear.bias)

    @classmethod
    def of_block(cls, block: Any, init: str, time_signal: bool = False, causal: bool = False) -> Self:
        """For one residual block of an image transformer.

        Args:
            block: of open_clip or timm, see `attention_weights`.
            init: ``"copy"`` starts q, k, v and out as the block's attention within frames, ``"random"`` as a truncated
                normal of standard deviation 0.02. The norm is a copy either way, unless the block's comes after.

        Raises:
            VidsslError: for ``"copy"`` where the shapes differ.
        """
        own = attention_weights(block, copied=init == "copy")
        temporal = cls(own.out.out_features, own.heads, own.norm, time_signal, causal)
        if init == "copy":
            with torch.no_grad():
                temporal.qkv.weight.copy_(own.weight)
                temporal.qkv.bias.copy_(own.bias)
                temporal.out.weight.copy_(own.out.weight)
                temporal.out.bias.copy_(own.out.bias)
        return temporal

    def signalled(self, x: Tensor) -> Tensor:
        """What attends, (B, T, S, W): normed, and told the time where it is to know."""
        x = self.norm(x)
        if self.time_signal:
            x = x + rearrange(sinusoids(x.shape[1], x.shape[3], like=x), "t w -> t 1 w")
        return x

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, S, W), S places in each of T frames. Returns the residual, same shape."""
        places = x.shape[2]
        sequences = rearrange(self.signalled(x), "b t s w -> (b s) t w")
        q, k, v = rearrange(self.qkv(sequences), "n t (three h d) -> three n h t d", three=3, h=self.heads)
        attended = _attention(q, k, v, self.causal)
        residual: Tensor = self.fc(self.out(rearrange(attended, "n h t d -> n t (h d)")))
        return rearrange(residual, "(b s) t w -> b t s w", s=places)


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """(T, W) sines and cosines of the frame's place in the clip, with the dtype and device of `like`.

    Places are shares of the clip, (t + 1/2) / T, so clips of any number of frames over the same seconds read alike.
    Wavelengths fall geometrically from four clips to one tenth of a clip (after Vaswani et al. 2017, arXiv 1706.03762,
    section 3.5).
    """
    place = (torch.arange(length, device=like.device, dtype=torch.float64) + 0.5) / length
    cycles = torch.logspace(math.log10(0.25), 1, (width + 1) // 2, device=like.device, dtype=torch.float64)
    angle = 2 * math.pi * place[:, None] * cycles
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width].to(like.dtype)


def _attention(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> Tensor:
    """Scaled dot-product attention of (n, heads, T, d) for any n."""
    if q.shape[0] <= MAX_SEQUENCES:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal)
    pieces = zip(q.split(MAX_SEQUENCES), k.split(MAX_SEQUENCES), v.split(MAX_SEQUENCES), strict=True)
    return torch.cat([F.scaled_dot_product_attention(*piece, is_causal=causal) for piece in pieces])
