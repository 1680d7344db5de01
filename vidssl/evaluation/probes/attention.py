"""Attentive heads: a learned query looks at all tokens of a video, and what it gathers is classified. Many are trained at once.

As the probes of V-JEPA (Bardes et al. 2024, arXiv 2404.08471) and V-JEPA 2: blocks of self-attention, then one of cross-attention
with a single query, then a linear layer. With a single query the keys and values of the tokens need not be made: scores are
products of the tokens with one vector for each attention head, and the values' matrix is applied to what was gathered. That is
the same function, but for the keys' bias, on which a softmax does not depend.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class AttentiveHeads(nn.Module):
    """H heads of the same start, whose parameters have a leading H.

    Args:
        heads: H. dim: D, of a token. classes: K.
        blocks: of attention; the last gathers, those before it let the tokens look at each other.
        seed: of the start.
    """

    token: nn.Parameter
    classes: nn.Parameter
    classes_bias: nn.Parameter

    def __init__(self, heads: int, dim: int, classes: int, *, blocks: int = 1, seed: int = 0) -> None:
        super().__init__()
        self.heads, self.blocks = heads, blocks
        self.attention = next(a for a in range(min(16, max(dim // 32, 1)), 0, -1) if dim % a == 0)
        generator = torch.Generator().manual_seed(seed)

        def add(name: str, *shape: int, value: float | None = None) -> None:
            start = torch.empty(shape)
            if value is None:
                nn.init.trunc_normal_(start, std=0.02, generator=generator)
            else:
                start.fill_(value)
            self.register_parameter(name, nn.Parameter(start.expand(heads, *shape).clone()))

        for block in range(blocks):
            for norm in ("norm1", "norm2"):
                add(f"{norm}_scale_{block}", dim, value=1.0)
                add(f"{norm}_shift_{block}", dim, value=0.0)
            for name, rows, columns in (
                ("query", dim, dim), ("key", dim, dim), ("value", dim, dim), ("out", dim, dim),
                ("wide", 4 * dim, dim), ("narrow", dim, 4 * dim),
            ):  # fmt: skip
                add(f"{name}_{block}", rows, columns)
                if name != "key":
                    add(f"{name}_bias_{block}", rows, value=0.0)
        add("token", dim)
        add("classes", classes, dim)
        add("classes_bias", classes, value=0.0)

    def forward(self, tokens: Tensor, shown: Tensor) -> Tensor:
        """(B, N, D) tokens and (B, N) bool, which of them count -> (H, B, K) logits."""
        x = F.layer_norm(tokens, tokens.shape[-1:])[None]  # its H is 1 as long as all heads see the same
        for block in range(self.blocks - 1):
            x = x + self._look_around(x, shown, block)
            x = x + self._think(x, block)
        last = self.blocks - 1
        y = self.token[:, None] + self._gather(x, shown, last)
        y = y + self._think(y[:, :, None], last)[:, :, 0]
        return torch.einsum("hbd,hkd->hbk", y, self.classes) + self.classes_bias[:, None]

    def _of(self, name: str, block: int) -> Tensor:
        return getattr(self, f"{name}_{block}")  # type: ignore[no-any-return]

    def _normed(self, x: Tensor, norm: str, block: int) -> Tensor:
        scale, shift = (self._of(f"{norm}_{part}", block)[:, None, None] for part in ("scale", "shift"))
        return F.layer_norm(x, x.shape[-1:]) * scale + shift

    def _linear(self, x: Tensor, name: str, block: int) -> Tensor:
        """(H, B, N, D) -> (H, B, N, D')."""
        flat = torch.baddbmm(
            self._of(f"{name}_bias", block)[:, None],
            x.flatten(1, 2),
            self._of(name, block).transpose(1, 2),
        )
        return flat.reshape(*x.shape[:3], -1)

    def _think(self, x: Tensor, block: int) -> Tensor:
        x = self._normed(x, "norm2", block)
        return self._linear(F.gelu(self._linear(x, "wide", block)), "narrow", block)

    def _look_around(self, x: Tensor, shown: Tensor, block: int) -> Tensor:
        x = self._normed(x, "norm1", block)
        keys = torch.einsum("hbnd,hed->hbne", x, self._of("key", block))
        parts = (self._linear(x, "query", block), keys, self._linear(x, "value", block))
        q, k, v = (rearrange(part, "h b n (a d) -> (h b) a n d", a=self.attention) for part in parts)
        mask = shown.repeat(len(x), 1)[:, None, None]
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._linear(rearrange(mixed, "(h b) a n d -> h b n (a d)", h=len(x)), "out", block)

    def _gather(self, x: Tensor, shown: Tensor, block: int) -> Tensor:
        """(H or 1, B, N, D) tokens -> (H, B, D)."""
        a = self.attention
        scale, shift = self._of("norm1_scale", block), self._of("norm1_shift", block)
        query = torch.einsum("hd,hed->he", self.token, self._of("query", block)) + self._of(
            "query_bias", block
        )
        key, value = (
            rearrange(self._of(name, block), "h (a e) d -> h a e d", a=a) for name in ("key", "value")
        )
        query = rearrange(query, "h (a e) -> h a e", a=a) / math.sqrt(key.shape[2])
        seen_by = torch.einsum("hae,haed->had", query, key) * scale[:, None]
        plain = F.layer_norm(x, x.shape[-1:])
        if len(x) == 1:  # one product for all heads
            scores = rearrange(plain[0] @ seen_by.flatten(0, 1).T, "b n (h a) -> b (h a) n", a=a)
            weights = scores.masked_fill(~shown[:, None], -math.inf).softmax(-1)
            gathered = rearrange(weights @ plain[0], "b (h a) d -> h b a d", a=a)
        else:
            scores = torch.einsum("hbnd,had->hban", plain, seen_by)
            weights = scores.masked_fill(~shown[:, None], -math.inf).softmax(-1)
            gathered = weights @ plain
        gathered = gathered * scale[:, None, None] + shift[:, None, None]
        found = (
            torch.einsum("hbad,haed->hbae", gathered, value).flatten(2)
            + self._of("value_bias", block)[:, None]
        )
        return self._linear(found[:, :, None], "out", block)[:, :, 0]
