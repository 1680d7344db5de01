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
SIDE = 10


@dataclass(frozen=True)
class Tile:
    """Queries that share a rectangle of keys.

    Attributes:
        rows: of the queries.
        key_rows: of the keys.
        keys: (M,) the cells of the rectangle, as places in the grid counted row by row.
        outside: (Q, M) True where a key lies outside the window of a query; None if all lie inside.
    """

    rows: slice
    key_rows: slice
    keys: Tensor
    outside: Tensor | None


@dataclass(frozen=True)
class Band:
    """Tiles one above the other. The keys of each are rows of the band's, which lie in memory one after the other.

    Attributes:
        columns: of the queries.
        key_columns: of the keys.
        tiles: from top to bottom.
    """

    columns: slice
    key_columns: slice
    tiles: list[Tile]


def bands(h: int, w: int, radius: float, window: str, scores: int, device: torch.device) -> list[Band]:
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
        width, height = min(w, queries), max(1, queries // w)
    else:
        reach = math.floor(radius) if window == "square" else math.ceil(radius) - 1
        side = SIDE
        while side > 1 and side**2 * min(h, side + 2 * reach) * min(w, side + 2 * reach) > scores:
            side -= 1
        width = height = side
    y, x = torch.arange(h, device=device), torch.arange(w, device=device)
    found = []
    for columns, key_columns in _spans(w, width, reach):
        band = Band(columns, key_columns, [])
        for rows, key_rows in _spans(h, height, reach):
            keys = (y[key_rows, None] * w + x[key_columns]).flatten()
            outside = None
            if radius != 0:
                dy = (y[rows, None] - y[key_rows]).abs()[:, None, :, None]
                dx = (x[columns, None] - x[key_columns]).abs()[None, :, None, :]
                inside = (dy <= radius) & (dx <= radius) if window == "square" else dy**2 + dx**2 < radius**2
                outside = ~inside.flatten(2).flatten(0, 1)
            band.tiles.append(Tile(rows, key_rows, keys, outside))
        found.append(band)
    return found


def _spans(length: int, side: int, reach: int) -> list[tuple[slice, slice]]:
    """Pieces of a line of cells, each with what lies at most `reach` from it."""
    starts = range(0, length, side)
    return [
        (
            slice(start, min(start + side, length)),
            slice(max(0, start - reach), min(length, start + side + reach)),
        )
        for start in starts
    ]
