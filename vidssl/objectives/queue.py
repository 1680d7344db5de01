"""A fixed number of the latest rows, as buffers of the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError


class RowQueue(nn.Module):
    """The last `size` rows that were appended; older ones are overwritten.

    Args:
        size: number of rows, any: it need not be a multiple of what is appended.
        shape: of one row.
        fill: value of rows not written yet.
        dtype: of the rows.

    Raises:
        VidsslError: for a size below 1.
    """

    rows: Tensor
    written: Tensor

    def __init__(self, size: int, *shape: int, fill: float = 0.0, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        if size < 1:
            raise VidsslError(f"queue_size={size}: must be at least 1")
        self.register_buffer("rows", torch.full((size, *shape), fill, dtype=dtype))
        # Rows ever written: modulo the size the place of the next one.
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """(size,) bool: places that hold a row."""
        return torch.arange(len(self.rows), device=self.rows.device) < self.written

    @torch.no_grad()
    def append(self, rows: Tensor) -> None:
        """(n, *shape) rows over the oldest; of more than `size` only the last `size` remain."""
        size = len(self.rows)
        kept = rows[-size:].to(self.rows.dtype)
        first = self.written + (len(rows) - len(kept))
        places = (first + torch.arange(len(kept), device=self.rows.device)) % size
        self.rows[places] = kept
        self.written += len(rows)
