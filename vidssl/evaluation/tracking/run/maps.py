"""Label maps of frames ↔ soft labels on the grid of features."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from vidssl.evaluation.tracking.masks import labels_of, masks_of
from vidssl.evaluation.tracking.run.features import Grid
from vidssl.evaluation.tracking.run.task import Labels


def labels_on(mask: Labels, ids: Sequence[int], grid: Grid, preset: str) -> Tensor:
    """Labels (1 + len(ids), h, w) of a label map: background, then the objects in the order of `ids`.

    What the last cells show beyond the frame is labelled as its border, which is what they show.
    """
    height, width = _covered(grid)
    filled = np.pad(mask, ((0, height - mask.shape[0]), (0, width - mask.shape[1])), mode="edge")
    return labels_of(filled, ids, grid.size, preset)


def mask_from(soft: Tensor, ids: Sequence[int], grid: Grid, size: tuple[int, int], preset: str) -> Labels:
    """The label map, of `size` (H, W), of soft labels (1 + len(ids), h, w)."""
    numbers = masks_of(soft, _covered(grid), preset).cpu().numpy()[: size[0], : size[1]]
    named: Labels = np.array([0, *ids], dtype=np.int32)[numbers]
    return named


def _covered(grid: Grid) -> tuple[int, int]:
    """Pixels of a frame under all cells."""
    height, width = (round(cells * side) for cells, side in zip(grid.size, grid.cell, strict=True))
    return height, width
