"""What was detected in one frame, without names: boxes, masks or poses."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.overlap import Array, as_array, is_box

Masks = NDArray[np.bool_]

# Limbs are drawn this wide, in sizes of the pose, and at least so many pixels.
LIMB, LIMB_PIXELS = 1 / 20, 8


@dataclass(frozen=True)
class Skeleton:
    """Which joints make a body: `torso`, corners of a polygon in order, and `limbs`, pairs."""

    torso: tuple[int, ...] = ()
    limbs: tuple[tuple[int, int], ...] = ()


# neck, belly, face, then right and left: shoulder, hip, elbow, knee, wrist, ankle (Jhuang et al. 2013, JHMDB).
JHMDB = Skeleton(
    torso=(3, 4, 6, 5),
    limbs=((0, 2), (0, 1), (3, 7), (7, 11), (4, 8), (8, 12), (5, 9), (9, 13), (6, 10), (10, 14)),
)


@dataclass(frozen=True, eq=False)
class Detections:
    """N detections in a frame, as one of three kinds.

    Args:
        boxes: (N, 4) x, y, w, h in pixels, the frame's upper left corner at (0, 0).
        masks: (N, H, W) boolean; may overlap.
        points: (N, J, 2) joints (x, y); a coordinate below 0, or not finite, is a hidden joint.
        scores: (N,) how sure the detector is; 1 where not given.

    Attributes:
        kind: "boxes", "masks" or "points".
        boxes: of masks the mean of their pixels ± 2 mean absolute deviations; of poses the box of the joints that are seen, at
            least a pixel wide and high; nan where there is nothing.

    Raises:
        VidsslError: none or several kinds, shapes other than these, or scores of another number.
    """

    boxes: Any = None
    masks: Any = None
    points: Any = None
    scores: Any = None
    kind: str = field(init=False)

    def __post_init__(self) -> None:
        kinds = {"boxes": self.boxes, "masks": self.masks, "points": self.points}
        given = [name for name, value in kinds.items() if value is not None]
        if len(given) != 1:
            raise VidsslError(
                f"detections as {' and '.join(given) or 'nothing'}: must be one of {', '.join(kinds)}"
            )
        kind = given[0]
        values = _as_masks(self.masks) if kind == "masks" else as_array(kinds[kind])
        axes, last = {"boxes": ("(N, 4)", 4), "masks": ("(N, H, W)", None), "points": ("(N, J, 2)", 2)}[kind]
        if values.ndim != axes.count(",") + 1 or last not in (None, values.shape[-1]):
            raise VidsslError(f"detections: {kind} of shape {values.shape}: must be {axes}")
        scores = np.ones(len(values)) if self.scores is None else as_array(self.scores)
        if scores.shape != (len(values),):
            raise VidsslError(f"detections: {len(values)} {kind}, but scores of shape {scores.shape}")
        held: dict[str, Any] = {
            "kind": kind,
            "scores": scores,
            kind: values if kind == "masks" else np.where(np.isfinite(values), values, np.nan),
        }
        if kind != "boxes":
            box_of = _box_of_mask if kind == "masks" else _box_of_points
            held["boxes"] = np.array([box_of(value) for value in held[kind]]).reshape(-1, 4)
        for name, value in held.items():
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        return len(self.boxes)

    def within(self, size: tuple[int, int]) -> NDArray[np.bool_]:
        """(N,): is there anything of its box in a frame of `size` (H, W)?"""
        first, last = self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]
        return np.asarray(is_box(self.boxes) & (first < size[::-1]).all(1) & (last > 0).all(1))


def _as_masks(values: Any) -> Masks:
    masks = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values)
    return masks if masks.dtype == bool else np.asarray(masks > 0.5)


def _box_of_mask(mask: Masks) -> Array:
    """Mean of the pixels ± 2 mean absolute deviations, which of a full rectangle is the rectangle."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return np.full(4, np.nan)
    pixels = np.stack((columns, rows), axis=1) + 0.5
    centre = pixels.mean(0)
    half = np.maximum(2 * np.abs(pixels - centre).mean(0), 0.5)
    return np.concatenate((centre - half, 2 * half))


def seen(points: Array) -> NDArray[np.bool_]:
    """(..., J, 2) -> (..., J)."""
    return np.asarray(np.isfinite(points).all(-1) & (points >= 0).all(-1))


def _box_of_points(points: Array) -> Array:
    there = points[seen(points)]
    if not len(there):
        return np.full(4, np.nan)
    return np.concatenate((there.min(0), np.maximum(np.ptp(there, axis=0), 1)))


def draw_pose(points: Array, size: tuple[int, int], skeleton: Skeleton | None = None) -> Masks:
    """Joints as a body: the torso filled, limbs as thick lines, or dots where none of these is seen.

    Args:
        points: (J, 2).
        size: (H, W) of the frame.
        skeleton: which joints belong together; None joins each with each.

    Returns:
        (H, W) boolean.

    Raises:
        VidsslError: a skeleton with joints that are not there.
    """
    there = np.flatnonzero(seen(points))
    limbs = tuple(combinations(range(len(points)), 2)) if skeleton is None else skeleton.limbs
    torso = () if skeleton is None else skeleton.torso
    largest = max([*torso, *(joint for limb in limbs for joint in limb)], default=0)
    if largest >= len(points):
        raise VidsslError(f"poses of {len(points)} joints: the skeleton names joint {largest}")
    image = Image.new("1", (size[1], size[0]))
    pen = ImageDraw.Draw(image)
    # What lies far outside is moved nearer: whole numbers of a picture have an end.
    near = points.clip(max=2.0 * max(size))
    places = {joint: tuple(near[joint]) for joint in there.tolist()}
    extent = np.ptp(near[there], axis=0).max() if len(there) else 0
    width = max(int(extent * LIMB), LIMB_PIXELS)
    corners = [places[joint] for joint in torso if joint in places]
    lines = [[places[a], places[b]] for a, b in limbs if a in places and b in places]
    if len(corners) >= 3:
        pen.polygon(corners, fill=1)
    for line in lines:
        pen.line(line, fill=1, width=width)
    if len(corners) < 3 and not lines:
        for x, y in places.values():
            pen.ellipse((x - width / 2, y - width / 2, x + width / 2, y + width / 2), fill=1)
    return np.array(image, dtype=bool)
