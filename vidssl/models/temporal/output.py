"""The last map of what is added to an image model: zero at the start, and yet open to gradients.

    y = (fc + LEAK * identity) x + bias        # fc and bias are zero at the start

Behind a map of zero nothing has a gradient, so that in the first step only the map itself would learn. The constant beside it is too small to change
a feature (about as much as the order of additions does) and lets the gradient through from the first step on. It is no initial value of
the map, because optimisers that go by the size of a weight (LARS) would hardly move one that starts next to zero.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAK = 1e-9


class OutputMap(nn.Linear):
    """A linear map that starts at zero. The identity is repeated where one side is longer than the other."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        rows, columns = self.weight.shape
        i = torch.arange(max(rows, columns), device=self.weight.device)
        leak = self.weight.new_tensor(LEAK)
        weight = self.weight.index_put((i % rows, i % columns), leak, accumulate=True)
        return F.linear(x, weight, self.bias)
