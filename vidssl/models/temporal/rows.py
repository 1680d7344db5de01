"""What an image tower tells of a frame to what learns of time behind it: its features, and what stands where in the picture.

    row of a frame = [ features (D) | mean of the last layer's map over each cell of a coarse grid (g g W) ]

The mean over the whole picture does not tell where a hand is; a grid of 3 x 3 cells does. Rows do not depend on other frames,
so they can be computed once and kept (`vidssl extract --draws`).
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures


def frame_rows(pooled: Tensor, maps: Tensor | None, grid: int) -> Tensor:
    """Rows of the frames of B clips.

    Args:
        pooled: (B, T, D) features of the frames.
        maps: (B T, W, h, w) of their last layer; None for a grid of 0.
        grid: g, cells a side; 0: features alone. Cells share pixels of the map where g does not divide h or w.

    Returns:
        (B, T, D + g g W), the cells row by row.
    """
    if maps is None or grid == 0:
        return pooled
    cells = rearrange(adaptive_avg_pool2d(maps, grid), "(b t) w y x -> b t (y x w)", t=pooled.shape[1])
    return torch.cat([pooled, cells.to(pooled.dtype)], dim=2)


def behind_frames(rows: Tensor, dim: int, head: nn.Module | None) -> ClipFeatures:
    """Features of clips from the rows (B, T, D + g g W) of their frames, with or without a head that learns of time.

    Raises:
        VidsslError: for rows of another size than the head was made for.
    """
    cells = head.norm.cells if head is not None and isinstance(head.norm, RowNorm) else None
    size = dim if cells is None else dim + cells.normalized_shape[0]
    if rows.shape[2] != size:
        raise VidsslError(f"encoder: rows of {rows.shape[2]} numbers a frame: this encoder takes {size}")
    frames = rows[..., :dim]
    if head is not None:
        frames = head(rows) if head.alone else frames + head(rows)
    return ClipFeatures(frames.mean(dim=1), frames, None)


class RowNorm(nn.Module):
    """Layer norm of the features, and one of the cells.

    Args:
        dim: D of the features.
        cells: g g W numbers of the cells behind them; 0 for none.
    """

    def __init__(self, dim: int, cells: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.features, self.cells = nn.LayerNorm(dim), nn.LayerNorm(cells) if cells else None

    def forward(self, rows: Tensor) -> Tensor:
        """(…, D + g g W) -> the same shape."""
        normed: Tensor = self.features(rows[..., : self.dim])
        return (
            normed if self.cells is None else torch.cat([normed, self.cells(rows[..., self.dim :])], dim=-1)
        )
