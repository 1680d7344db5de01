"""A fixed number of the latest rows, as buffers of the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vidssl.errors import check_value


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
        check_value("queue_size", size, size >= 1, "at least 1")
        self.register_buffer("rows", torch.full((size, *shape), fill, dtype=dtype))
        # Rows ever written: modulo the size the place of the next one.
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def filled(self) -> Tensor:
        """(size,) bool: places that hold a row."""
        return filled(self.rows, self.written)

    def append(self, rows: Tensor) -> None:
        """(n, *shape) rows over the oldest; of more than `size` only the last `size` remain."""
        overwrite_oldest(self.rows, self.written, rows)


def filled(queue: Tensor, written: Tensor) -> Tensor:
    """(size,) bool: places of `queue` (size, …) that hold one of the `written` rows."""
    return torch.arange(len(queue), device=queue.device) < written


@torch.no_grad()
def overwrite_oldest(queue: Tensor, written: Tensor, rows: Tensor) -> None:
    """Write rows (n, …) over the oldest of `queue` (size, …) and count them in `written` (), both in place."""
    size = len(queue)
    kept = rows[-size:].to(queue.dtype)
    first = written + (len(rows) - len(kept))
    places = (first + torch.arange(len(kept), device=queue.device)) % size
    queue[places] = kept
    written += len(rows)
