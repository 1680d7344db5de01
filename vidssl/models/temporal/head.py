"""A transformer over the features of frames, behind any image tower.

    u_t += fc( blocks( norm(u) + place of t )_t )        # fc is zero at the start

u_t are the tower's features of single frames; what it does not see in a frame cannot be learned (as the "sequential
transformer" of Luo et al. 2021, CLIP4Clip, arXiv 2104.08860, here with an output that starts at zero).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.models.temporal.divided import sinusoids
from vidssl.models.temporal.output import OutputMap

HEAD_SIZE = 64


class TemporalTransformer(nn.Module):
    """The residual of frame features that tells of the other frames.

    Args:
        dim: D of the frame features.
        time_signal: tell it the order of frames, see :class:`TemporalAttention`; without, it cannot know.
        causal: a frame attends to itself and earlier frames only.
        layers: pre-norm blocks.
    """

    def __init__(self, dim: int, time_signal: bool = True, causal: bool = False, layers: int = 2) -> None:
        super().__init__()
        self.time_signal, self.causal = time_signal, causal
        heads = next(n for n in range(max(dim // HEAD_SIZE, 1), 0, -1) if dim % n == 0)
        self.norm = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                dim, heads, 4 * dim, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.fc = OutputMap(dim, dim)

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (B, T, D) for any T. Returns the residual, same shape."""
        x = self.norm(frames)
        length = x.shape[1]
        if self.time_signal:
            x = x + sinusoids(length, x.shape[2], like=x)
        later = None
        if self.causal:
            later = torch.ones(length, length, dtype=torch.bool, device=x.device).triu(1)
        for block in self.blocks:
            x = block(x, src_mask=later)
        residual: Tensor = self.fc(x)
        return residual
