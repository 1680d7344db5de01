"""Masks of objects: label maps to soft labels on the grid of features and back, and how well a mask fits the true one.

J and F are those of DAVIS-2017 (Perazzi et al. 2016; Pont-Tuset et al. 2017, its `davis2017-evaluation`). They belong to
masks of the original size, frame by frame and object by object.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from vidssl.errors import VidsslError, check_choice, check_value
from vidssl.evaluation.tracking.overlap import as_array
from vidssl.evaluation.tracking.presets import PRESETS

Boolean = NDArray[np.bool_]

# The protocols whose labels on the grid are those of the cells' middles, and whose channels are stretched to [0, 1] before
# the largest is taken. The others mix the labels of the pixels round a cell's middle, and take the largest as it is.
HARD = frozenset({"dino", "vfs", "rsp"})


def labels_of(
    label_map: ArrayLike | Tensor, ids: Sequence[int], size: tuple[int, int], preset: str = "dino"
) -> Tensor:
    """The label map of frame 0 as labels on the grid of features.

    Args:
        label_map: (H, W) whole numbers, an object's id in each pixel. All that is none of `ids` is background, void (255) too.
        ids: of the objects, in the order of their channels.
        size: (h, w) of the grid.
        preset: of the propagation. "dino", "vfs" and "rsp" take the pixel at a cell's middle; the others resize each
            object's mask bilinearly.

    Returns:
        (1 + len(ids), h, w) float32, background first; sums to one over channels. An object that is small beside a cell
        may have no cell left.

    Raises:
        VidsslError: for another shape, or an unknown preset.
    """
    check_choice("preset", preset, PRESETS)
    numbers = torch.from_numpy(np.array(_host(label_map)))
    if numbers.ndim != 2 or numbers.is_floating_point():
        raise VidsslError(
            f"label map: {numbers.dtype} of shape {tuple(numbers.shape)}: must be whole numbers (H, W)"
        )
    objects = (
        torch.stack([numbers == name for name in ids])
        if len(ids)
        else numbers.new_empty(0, *numbers.shape).bool()
    )
    one_hot = torch.cat([~objects.any(dim=0, keepdim=True), objects]).float()[None]
    if preset in HARD:
        return F.interpolate(one_hot, size, mode="nearest-exact")[0]
    return F.interpolate(one_hot, size, mode="bilinear", align_corners=False)[0]


def map_of_boxes(boxes: ArrayLike | Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes drawn as a label map, so that they can be carried along as masks are; `boxes_of` reads them again.

    A pixel belongs to a box that its middle lies in; of several, to the last.

    Args:
        boxes: (N, 4) rows x, y, w, h in pixels, the upper left corner of the frame at (0, 0).
        size: (H, W) of the map.

    Returns:
        (H, W) int64: 0, or 1 + the number of the box.

    Raises:
        VidsslError: for another shape, or a box that is not finite, has no area or lies outside of the map.
    """
    rows = as_array(boxes)
    if rows.ndim != 2 or rows.shape[1] != 4:
        raise VidsslError(f"boxes: shape {tuple(rows.shape)}: must be (N, 4)")
    drawn = torch.zeros(size, dtype=torch.int64)
    y, x = (torch.arange(side) + 0.5 for side in size)
    for number, (left, top, width, height) in enumerate(rows.tolist()):
        inside = ((y >= top) & (y < top + height))[:, None] & (x >= left) & (x < left + width)
        if not inside.any():
            raise VidsslError(
                f"box {number} ({left:g}, {top:g}, {width:g}, {height:g}): covers no pixel of {size[1]} x {size[0]}"
            )
        drawn[inside] = number + 1
    return drawn


def boxes_of(label_map: ArrayLike | Tensor, ids: Sequence[int]) -> NDArray[np.float64]:
    """The tight boxes (len(ids), 4) x, y, w, h round objects of a label map (H, W), in pixels; NaN where one is not there."""
    numbers = _host(label_map)
    boxes = np.full((len(ids), 4), np.nan)
    for row, name in enumerate(ids):
        y, x = np.nonzero(numbers == name)
        if len(x):
            boxes[row] = x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()
    return boxes


def masks_of(soft: Tensor, size: tuple[int, int], preset: str = "dino") -> Tensor:
    """The label map of one frame's soft labels.

    Each channel is upsampled bilinearly; where the protocol has it ("dino", "vfs", "rsp"), a channel with anything above 0
    is stretched to [0, 1], unless it is the same everywhere; the largest wins, the first of equals.

    Args:
        soft: (C, h, w), background first.
        size: (H, W) of the map.
        preset: of the propagation.

    Returns:
        (H, W) int64, the number of the channel.

    Raises:
        VidsslError: for another shape, labels that are not finite, or an unknown preset.
    """
    check_choice("preset", preset, PRESETS)
    if soft.ndim != 3 or 0 in soft.shape:
        raise VidsslError(f"soft labels: shape {tuple(soft.shape)}: must be (C, h, w), none of them 0")
    if not soft.isfinite().all():
        raise VidsslError("soft labels: not finite")
    soft = soft.to(torch.promote_types(soft.dtype, torch.float32))
    large = F.interpolate(soft[None], size, mode="bilinear", align_corners=False)[0]
    if preset in HARD:
        least, most = large.amin(dim=(1, 2), keepdim=True), large.amax(dim=(1, 2), keepdim=True)
        stretched = (large - least) / (most - least).where(most > least, 1)
        large = stretched.where((most > 0) & (most > least), large)
    return large.argmax(dim=0)


def region_similarity(
    predicted: ArrayLike | Tensor, true: ArrayLike | Tensor, void: ArrayLike | Tensor | None = None
) -> float:
    """J: intersection over union of two masks; 1 where both are empty.

    Args:
        predicted, true: boolean (H, W).
        void: boolean (H, W); pixels that do not count.

    Raises:
        VidsslError: for masks that are not boolean, or of different sizes.
    """
    predicted, true = _pair(predicted, true, void)
    union = int((predicted | true).sum())
    return int((predicted & true).sum()) / union if union else 1.0


def boundary_f(
    predicted: ArrayLike | Tensor,
    true: ArrayLike | Tensor,
    void: ArrayLike | Tensor | None = None,
    bound: float = 0.008,
) -> float:
    """F: harmonic mean of precision and recall of the boundary, where a boundary pixel near the other boundary is right.

    Near is within `bound` of it. A mask without a boundary is empty, or is the whole frame: where only one of the two has
    none, F is 0; where neither has one, 1.

    Args:
        predicted, true: boolean (H, W).
        void: boolean (H, W); pixels that do not count: they are in neither mask.
        bound: as a fraction of the frame's diagonal, rounded up to whole pixels; pixels if at least 1.

    Raises:
        VidsslError: for masks that are not boolean, or of different sizes; a bound that is not above 0.
    """
    check_value("bound", bound, 0 < bound < math.inf, "a number above 0")
    predicted, true = _pair(predicted, true, void)
    near = bound if bound >= 1 else math.ceil(bound * math.hypot(*true.shape))
    drawn, wanted = _boundary(predicted), _boundary(true)
    if not len(drawn) or not len(wanted):
        return float(len(drawn) == len(wanted))
    precision, recall = _share_near(drawn, wanted, near), _share_near(wanted, drawn, near)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def sequence_statistics(values: ArrayLike | Tensor) -> tuple[float, float, float]:
    """Mean, recall and decay of the values of one object over the frames that are scored.

    Recall is the share of frames above 0.5, a value that is not a number among them; decay the mean of the first quarter
    less that of the last. Both others leave out what is not a number.

    Args:
        values: (T,) J or F.

    Raises:
        VidsslError: for another shape, or no value.
    """
    values = as_array(values)
    if values.ndim != 1 or not len(values):
        raise VidsslError(f"values of a sequence: shape {values.shape}: must be (T,), at least one")
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    decay = _mean(values[ends[0] : ends[1] + 1]) - _mean(values[ends[3] : ends[4] + 1])
    return _mean(values), float((values > 0.5).mean()), decay


def _mean(values: NDArray[np.float64]) -> float:
    """Over what is a number; NaN where nothing is."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _boundary(mask: Boolean) -> NDArray[np.intp]:
    """(N, 2) pixels that differ from their right, lower or lower right neighbour; beyond the frame it goes on as at its edge."""
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    here = padded[:-1, :-1]
    found: NDArray[np.intp] = np.argwhere(
        (here != padded[:-1, 1:]) | (here != padded[1:, :-1]) | (here != padded[1:, 1:])
    )
    return found


def _share_near(pixels: NDArray[np.intp], others: NDArray[np.intp], radius: float) -> float:
    """Share of `pixels` with one of the `others` at most `radius` away."""
    distance, _ = cKDTree(others).query(pixels, distance_upper_bound=radius + 1)  # farther: inf
    return float((distance <= radius).mean())


def _pair(
    predicted: ArrayLike | Tensor, true: ArrayLike | Tensor, void: ArrayLike | Tensor | None
) -> tuple[Boolean, Boolean]:
    """Both masks without void pixels."""
    masks = {"predicted": predicted, "true": true, **({} if void is None else {"void": void})}
    given = {name: _boolean(f"{name} mask", mask) for name, mask in masks.items()}
    for name, mask in given.items():
        if mask.shape != given["true"].shape:
            raise VidsslError(
                f"{name} mask: {_size(mask)} pixels, but the true one has {_size(given['true'])}"
            )
    counts = ~given["void"] if void is not None else np.ones_like(given["true"])
    return given["predicted"] & counts, given["true"] & counts


def _boolean(name: str, mask: ArrayLike | Tensor) -> Boolean:
    given = _host(mask)
    if given.ndim != 2:
        raise VidsslError(f"{name}: shape {given.shape}: must be (H, W)")
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise VidsslError(f"{name}: holds values other than 0 and 1; compare a label map with an object's id")
    return given.astype(bool)


def _host(values: ArrayLike | Tensor) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)


def _size(mask: Boolean) -> str:
    return " x ".join(str(side) for side in reversed(mask.shape))
