"""Plain pixels as patch features: what any encoder has to beat."""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl.errors import check_value
from vidssl.models.patches.frames import check_frames, fill_cells

MEAN, STD = 0.45, 0.225  # of pixels in [0, 1], so that cosines do not just say that all of them are bright


class RawPixels:
    """The pixels of each cell, averaged over a small grid within it; the same kind of callable as `PatchFeatures`.

    Args:
        stride: side of a cell in pixels.
        side: the cell is averaged to side x side colours, so that D = 3 side².

    Raises:
        VidsslError: for a stride or side below 1.
    """

    def __init__(self, stride: int = 8, side: int = 4) -> None:
        check_value("stride", stride, stride >= 1, "at least 1 pixel")
        check_value("side", side, side >= 1, "at least 1")
        self.stride, self.side, self.dim = stride, side, 3 * side * side

    def __call__(self, frames: Tensor) -> Tensor:
        """(T, 3, H, W) RGB in [0, 1] -> (T, D, h, w), h = ceil(H / stride)."""
        check_frames(frames)
        filled = (fill_cells(frames.float(), self.stride) - MEAN) / STD
        height, width = (self.side * size // self.stride for size in filled.shape[-2:])
        pooled = F.adaptive_avg_pool2d(filled, (height, width))
        return rearrange(pooled, "t c (h a) (w b) -> t (c a b) h w", a=self.side, b=self.side)
