"""A transformer over the features of frames, behind any image tower.

    u_t += fc( blocks( norm(u) + place of t )_t )        # fc is zero at the start

u_t are the tower's features of single frames (and cells of a coarse grid, see `rows`); what it does not see in a frame cannot be learned (as the "sequential
transformer" of Luo et al. 2021, CLIP4Clip, arXiv 2104.08860, here with an output that starts at zero).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.models.temporal.divided import sinusoids
from vidssl.models.temporal.output import OutputMap
from vidssl.models.temporal.rows import RowNorm

HEAD_SIZE = 64


class TemporalTransformer(nn.Module):
    """The residual of frame features that tells of the other frames.

    Args:
        dim: D of the frame features.
        time_signal: tell it the order of frames, see :class:`TemporalAttention`; without, it cannot know.
        causal: a frame attends to itself and earlier frames only.
        layers: pre-norm blocks.
        width: of the blocks, a linear map before them; None: D, and no map unless there are cells.
        cells: g g W numbers of a coarse grid behind the features of a frame, see `frame_rows`.
    """

    def __init__(
        self,
        dim: int,
        time_signal: bool = True,
        causal: bool = False,
        layers: int = 2,
        width: int | None = None,
        cells: int = 0,
    ) -> None:
        super().__init__()
        self.time_signal, self.causal = time_signal, causal
        self.norm = RowNorm(dim, cells) if cells else nn.LayerNorm(dim)
        mapped, width = width is not None or cells > 0, width or dim
        self.enter = nn.Linear(dim + cells, width) if mapped else nn.Identity()
        heads = next(n for n in range(max(width // HEAD_SIZE, 1), 0, -1) if width % n == 0)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.fc: nn.Linear = OutputMap(width, dim)

    alone, pool = False, "mean"  # whether it is the feature itself, and what a clip's is; see `temporal_head`

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (B, T, D + g g W) for any T. Returns the residual (B, T, D)."""
        if isinstance(self.norm, RowNorm) and isinstance(self.enter, nn.Linear):
            x = self.norm.mapped(frames, self.enter)
        else:
            x = self.enter(self.norm(frames))
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
