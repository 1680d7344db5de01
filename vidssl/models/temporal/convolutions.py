"""Convolutions over the frame features of an image model that itself stays as it is.

    u_t += fc( conv(conv(norm(u - mean u)))_t )                  # of features alone; fc is zero at the start
    u_t += fc( conv(conv(W norm(u) - mean W norm(u)))_t )        # of features and a coarse grid, see `rows`

u_t are the image model's features of single frames, and their mean over the clip is what does not change. What changes from frame to frame is read from them, not
from pixels, so training costs little more than a forward pass of the frozen image model; what the image model does not see in a frame
cannot be learned. Because `fc` starts at zero, the video model starts as the image model.

A norm behind the difference makes a clip in which little happens as lively as any. That is no harm where a picture's features change as a whole, and was one
where a hand moves through a few cells of a grid (measured, docs/training.md), so there the norm comes first.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidssl.models.temporal.output import OutputMap
from vidssl.models.temporal.rows import RowNorm


class TemporalConvolutions(nn.Module):
    """The residual of frame features that tells of their neighbours, three on either side.

    Args:
        dim: D of the frame features.
        width: channels of the two convolutions, a linear map before them; None: 2 D, and no map unless there are cells.
        cells: g g W numbers of a coarse grid behind the features of a frame, see `frame_rows`.
    """

    def __init__(self, dim: int, width: int | None = None, cells: int = 0) -> None:
        super().__init__()
        mapped, width = width is not None or cells > 0, width or 2 * dim
        self.norm = RowNorm(dim, cells) if cells else nn.LayerNorm(dim)
        # Of a frame by itself, so that the wide rows are gone through once and not for each of its neighbours.
        self.enter = nn.Linear(dim + cells, width, bias=cells == 0) if mapped else nn.Identity()
        self.first = nn.Conv1d(width if mapped else dim, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, padding=2, dilation=2)
        self.fc: nn.Linear = OutputMap(width, dim)

    alone, pool = False, "mean"  # whether it is the feature itself, and what a clip's is; see `temporal_head`

    def forward(self, frames: Tensor) -> Tensor:
        """frames: (B, T, D + g g W) for any T. Returns the residual (B, T, D)."""
        if isinstance(self.norm, RowNorm) and isinstance(self.enter, nn.Linear):
            # Linear, so that the mean can be taken off behind it, where rows are short.
            x = self.norm.mapped(frames, self.enter)
            x = x - x.mean(dim=1, keepdim=True)
        else:
            x = self.enter(self.norm(frames - frames.mean(dim=1, keepdim=True)))
        x = rearrange(x, "b t d -> b d t")
        x = F.gelu(self.second(F.gelu(self.first(x))))
        residual: Tensor = self.fc(rearrange(x, "b w t -> b t w"))
        return residual
