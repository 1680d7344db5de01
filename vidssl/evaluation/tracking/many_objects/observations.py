"""What an encoder says of each detection: the features of a box on a small grid, or of the cells under a mask.

Grids, areas and resizing are UniTrack's (Wang et al. 2021, arXiv 2107.02156), whose empty masks have random features; here
they are left out, and a mask that falls between the cells has the cell that shows most of it.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional
from torchvision.ops import roi_align

from vidssl.evaluation.tracking.many_objects.detections import Masks
from vidssl.evaluation.tracking.overlap import Array

# Rows and columns into which a box is read, whatever its shape.
GRID = (4, 10)


def box_features(features: Tensor, boxes: Array, stride: float) -> list[Tensor]:
    """Features of boxes, averaged on a grid of 4 x 10 places each.

    Args:
        features: (D, h, w) of the frame.
        boxes: (N, 4) x, y, w, h in pixels.
        stride: pixels per cell.

    Returns:
        N tensors (D, 40).
    """
    # Sampling takes as long as a box is large; beyond a frame's size outside of the frame there is nothing but more zeros.
    extent = np.array([features.shape[2], features.shape[1]] * 2)
    corners = np.concatenate((boxes[:, :2], boxes[:, :2] + boxes[:, 2:]), axis=1) / stride
    places = torch.from_numpy(corners.clip(-extent, 2 * extent)).to(features)
    grids = roi_align(features[None], [places], GRID)
    return list(rearrange(grids, "n d rows columns -> n d (rows columns)"))


def mask_features(features: Tensor, masks: Masks, stride: float, area: int) -> list[Tensor]:
    """Features of the cells whose middle a mask covers.

    Args:
        features: (D, h, w) of the frame.
        masks: (N, H, W), none of them empty.
        stride: pixels per cell.
        area: of more cells than these, the map is made smaller until about so many are left.

    Returns:
        N tensors (D, P_i), 1 <= P_i.
    """
    return [_mask_columns(features, mask, stride, area) for mask in masks]


def _mask_columns(features: Tensor, mask: Masks, stride: float, area: int) -> Tensor:
    h, w = features.shape[-2:]
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * stride).astype(int), extent - 1)
        for n, extent in zip((h, w), mask.shape, strict=True)
    )
    cells = torch.from_numpy(mask[np.ix_(rows, columns)]).to(features)
    if not bool(cells.any()):
        pixels = (np.argwhere(mask) / stride).astype(int).clip(max=(h - 1, w - 1))
        places, counts = np.unique(pixels, axis=0, return_counts=True)
        row, column = places[counts.argmax()]
        return features[:, row, column, None]
    if float(cells.sum()) > area:
        scale = math.sqrt(area / float(cells.sum()))
        smaller = functional.interpolate((features * cells)[None], scale_factor=scale, mode="bilinear")[0]
        fewer = functional.interpolate(cells[None, None], scale_factor=scale, mode="nearest")[0, 0]
        if bool(fewer.any()):
            return smaller[:, fewer > 0.5]
    return features[:, cells > 0.5]
