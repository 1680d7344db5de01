"""A grid of cells cut into tiles of queries, each with the part of the grid that their windows can reach.

Only cells inside the window of a query may hand it their label, so a tile needs the similarities of its cells to the
cells of a rectangle around it, not to the whole grid. Which cells of the rectangle lie outside the window of which
query depends on the grid alone: it is worked out once for all frames.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Rows and columns of a tile. More, and the rectangle holds more cells outside most windows; fewer, and the products are
# too small to be fast (benchmarks/propagation.py).
SIDE = 8


@dataclass(frozen=True)
class Tile:
    """Queries that share a rectangle of keys.

    Attributes:
        rows, columns: of the queries.
        key_rows, key_columns: of the keys.
        keys: (M,) the cells of the rectangle, as places in the grid counted row by row.
        outside: (Q, M) True where a key lies outside the window of a query; None if all lie inside.
    """

    rows: slice
    columns: slice
    key_rows: slice
    key_columns: slice
    keys: Tensor
    outside: Tensor | None


def tiles(h: int, w: int, radius: float, window: str, scores: int, device: torch.device) -> list[Tile]:
    """The tiles that cover a grid.

    Args:
        h, w: cells of the grid.
        radius: of the window, in cells; 0 is no window.
        window: "square" (both offsets at most `radius`) or "disc" (distance below `radius`).
        scores: how many pairs of a query and a key a tile may have, unless it is one query alone.
        device: of the tensors.
    """
    if radius == 0:
        reach, queries = max(h, w), max(1, scores // (h * w))
        height, width = max(1, queries // w), min(w, queries)
    else:
        reach = math.floor(radius) if window == "square" else math.ceil(radius) - 1
        side = SIDE
        while side > 1 and side**2 * min(h, side + 2 * reach) * min(w, side + 2 * reach) > scores:
            side -= 1
        height = width = side
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    found = []
    for top in range(0, h, height):
        for left in range(0, w, width):
            rows, columns = slice(top, min(top + height, h)), slice(left, min(left + width, w))
            key_rows = slice(max(0, top - reach), min(h, rows.stop + reach))
            key_columns = slice(max(0, left - reach), min(w, columns.stop + reach))
            keys = (y[key_rows, None] * w + x[key_columns]).flatten()
            outside = None
            if radius != 0:
                dy = (y[rows, None] - y[key_rows]).abs()[:, None, :, None]
                dx = (x[columns, None] - x[key_columns]).abs()[None, :, None, :]
                inside = (dy <= radius) & (dx <= radius) if window == "square" else dy**2 + dx**2 < radius**2
                outside = ~inside.flatten(2).flatten(0, 1)
            found.append(Tile(rows, columns, key_rows, key_columns, keys, outside))
    return found
