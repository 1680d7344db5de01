"""Small bottlenecks along time in every block of an image transformer that itself stays as it is (ST-Adapter).

    X += fc( gelu( conv_over_time( down(X) ) ) )        # fc is zero at the start

Pan et al. 2022, "ST-Adapter: Parameter-Efficient Image-to-Video Transfer Learning", arXiv 2206.13559: a depth-wise convolution
over three frames at the same place, before the block's own attention.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from vidssl.models.temporal.output import OutputMap

KERNEL = 3  # frames


class TemporalAdapter(nn.Module):
    """The bottleneck of one block.

    Args:
        width: W, size of a token.
        causal: a frame sees itself and the two before it, instead of one on either side.
        bottleneck: channels of the convolution; W / 2 by default, as in the paper.
    """

    def __init__(self, width: int, causal: bool = False, bottleneck: int | None = None) -> None:
        super().__init__()
        bottleneck = bottleneck or width // 2
        self.before = KERNEL - 1 if causal else KERNEL // 2
        self.down = nn.Linear(width, bottleneck)
        self.conv = nn.Conv1d(bottleneck, bottleneck, KERNEL, groups=bottleneck)
        self.fc = OutputMap(bottleneck, width)

    def forward(self, x: Tensor) -> Tensor:
        """x: (B, T, S, W), S places in each of T frames. Returns the residual, same shape."""
        places = x.shape[2]
        narrow = rearrange(self.down(x), "b t s c -> (b s) c t")
        moved = self.conv(F.pad(narrow, (self.before, KERNEL - 1 - self.before)))
        residual: Tensor = self.fc(F.gelu(rearrange(moved, "(b s) c t -> b t s c", s=places)))
        return residual
