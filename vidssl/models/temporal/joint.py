"""Attention over all tokens of all frames at once (joint space-time attention), behind an output that starts at zero.

    X += fc( attention_over_space_and_time( norm(X) ) )   # fc is zero at the start
    X += attention_in_frame( ln_1(X) );  X += mlp( ln_2(X) )

Bertasius et al. 2021, arXiv 2102.05095 ("joint"); block-causal across frames as in Kuhn et al. 2026 (LeVJEPA): within a
frame every token sees every other, and of other frames those before. Its cost grows with the square of the tokens of a clip;
dropping tokens in training takes that away.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl.models.temporal.divided import TemporalAttention


class JointAttention(TemporalAttention):
    """As :class:`TemporalAttention`, over space and time; with `causal`, a frame sees itself and earlier ones."""

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, S, W), S tokens in each of T frames. Returns the residual, same shape."""
        frames, places = x.shape[1:3]
        tokens = rearrange(self.signalled(x), "b t s w -> b (t s) w")
        q, k, v = rearrange(self.qkv(tokens), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        mask = None
        if self.causal:
            frame = torch.arange(frames, device=x.device).repeat_interleave(places)
            mask = frame[:, None] >= frame
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        residual: Tensor = self.fc(self.out(rearrange(attended, "b h n d -> b n (h d)")))
        return rearrange(residual, "b (t s) w -> b t s w", s=places)
