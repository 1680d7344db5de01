"""What an image tower tells of a frame to what learns of time behind it: its features, and what stands where in the picture.

    row of a frame = [ features (D) | mean of a layer's map over each cell of a coarse grid (g g W) ]

The mean over the whole picture does not tell where a hand is; a grid of 3 x 3 cells does. The last layer of a network says what is there, an
earlier one still how it lies. Rows do not depend on other frames,
so they can be computed once and kept (`vidssl extract --draws`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures, VideoEncoder


def frame_rows(pooled: Tensor, maps: Tensor | None, grid: int) -> Tensor:
    """Rows of the frames of B clips.

    Args:
        pooled: (B, T, D) features of the frames.
        maps: (B T, W, h, w) of a layer; None for a grid of 0.
        grid: g, cells a side; 0: features alone. Cells share pixels of the map where g does not divide h or w.

    Returns:
        (B, T, D + g g W), the cells row by row.
    """
    if maps is None or grid == 0:
        return pooled
    cells = rearrange(adaptive_avg_pool2d(maps, grid), "(b t) w y x -> b t (y x w)", t=pooled.shape[1])
    return torch.cat([pooled, cells.to(pooled.dtype)], dim=2)


def check_layer(encoder: VideoEncoder, layer: int | None, count: int) -> int:
    """The number of the layer whose map a grid is made of, among `count`.

    Raises:
        VidsslError: there is none of that number.
    """
    if layer is not None and not 0 <= layer < count:
        raise VidsslError(
            f"encoder: {encoder.spec['name']}: layer {layer}: has {count} layers (allowed: 0 to {count - 1}; the last by default)"
        )
    return count - 1 if layer is None else layer


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
    clip = _spread(frames) if head is not None and head.pool == "std" else frames.mean(dim=1)
    return ClipFeatures(clip, frames, None)


def _spread(frames: Tensor) -> Tensor:
    """(B, T, D) -> (B, D), the standard deviation over time; with a gradient where nothing moves."""
    return ((frames - frames.mean(dim=1, keepdim=True)).square().mean(dim=1) + 1e-6).sqrt()


class RowNorm(nn.Module):
    """Layer norm of the features, and one of the cells, with the linear map of both behind them.

    Args:
        dim: D of the features.
        cells: g g W numbers of the cells behind them; 0 for none.
    """

    def __init__(self, dim: int, cells: int = 0) -> None:
        super().__init__()
        self.dim = dim
        self.features, self.cells = nn.LayerNorm(dim), nn.LayerNorm(cells) if cells else None

    def mapped(self, rows: Tensor, linear: nn.Linear) -> Tensor:
        """`linear` of the normed rows, (…, D + g g W) -> (…, width).

            W (gamma * x + beta) = (W gamma) x + W beta

        What does not learn then stands alone before the products, and where the rows come from a frozen model no gradient is
        computed for them: it would be as much work as that of W, and would only be summed up to gamma's and beta's.
        """
        parts = [(self.features, rows[..., : self.dim])]
        if self.cells is not None:
            parts.append((self.cells, rows[..., self.dim :]))
        columns = linear.weight.split([part.shape[-1] for _, part in parts], dim=1)
        output: Tensor | None = linear.bias
        for (norm, part), weight in zip(parts, columns, strict=True):
            plain = F.layer_norm(part, norm.normalized_shape, eps=norm.eps)
            product = F.linear(plain, weight * norm.weight, weight @ norm.bias)
            output = product if output is None else output + product
        assert output is not None
        return output
