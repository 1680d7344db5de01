"""One sequence to track in: its frames, read when they are wanted, and what is known of its objects.

Readers (`vidssl.evaluation.tracking.layouts`) make it, the tasks take it. Frames count from 0, boxes are (x, y, w, h) in
pixels with the upper left corner of the frame at (0, 0), ids are positive, points are (x, y).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from vidssl.errors import VidsslError

Item = TypeVar("Item", covariant=True)
Mask = NDArray[np.int64]


class Lazy(Generic[Item]):
    """A list whose items are read when they are asked for, and not kept."""

    def __init__(self, count: int, read: Callable[[int], Item]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Item:
        if not -self._count <= index < self._count:
            raise IndexError(f"item {index} of {self._count}")
        return self._read(index % self._count)


@dataclass(frozen=True, eq=False)
class Sequence:
    """One sequence; what is None is not known of it.

    Args:
        name: of the sequence, as shown in tables.
        frames: T images, each uint8 RGB (H, W, 3), all of one size.
        boxes: (T, 4) of the one object to follow; NaN where it cannot be seen or the box is not known.
        corners: (T, 8) x1,y1,…,x4,y4 where the truth was written as four corners; `boxes` then are the upright boxes round them.
        masks: T label maps, int64 (H, W), 0 = background, else the object's id; None where a frame has no annotation. A frame
            with a map shows all objects that are there, unless `masks_introduce`.
        masks_introduce: a map shows only the objects that start at its frame, and is no truth to score with.
        objects: (N, 6) rows (frame, id, x, y, w, h) of all objects, sorted by frame.
        others: (K, 6) rows (frame, x, y, w, h, distractor) of what is there beside `objects` and not counted; on a distractor (1) a
            track is neither right nor wrong.
        keypoints: id of a figure -> (T, J, 2) points, (-1, -1) where hidden or not known.
        detections: (M, 6) rows (frame, x, y, w, h, score) without identity, as a detector gave them.
        detected: T label maps of masks without identity, as a detector gave them; numbers tell the masks of one frame apart.
        frame_rate: frames a second, where known.

    Raises:
        VidsslError: no frames; or truth for another number of frames; rows outside the frames.
    """

    name: str
    frames: Lazy[NDArray[np.uint8]]
    boxes: NDArray[np.float64] | None = None
    corners: NDArray[np.float64] | None = None
    masks: Lazy[Mask | None] | None = None
    masks_introduce: bool = False
    objects: NDArray[np.float64] | None = None
    others: NDArray[np.float64] | None = None
    keypoints: Mapping[int, NDArray[np.float64]] | None = None
    detections: NDArray[np.float64] | None = None
    detected: Lazy[Mask | None] | None = None
    frame_rate: float | None = None

    def __post_init__(self) -> None:
        count = len(self.frames)
        if not count:
            raise VidsslError(f"{self.name}: no frames")
        lengths = {
            "boxes": self.boxes,
            "four corners": self.corners,
            "masks": self.masks,
            "detected masks": self.detected,
        }
        for what, truth in lengths.items():
            if truth is not None and len(truth) != count:
                raise VidsslError(f"{self.name}: {count} frames, but {len(truth)} {what}")
        for figure, points in (self.keypoints or {}).items():
            if len(points) != count:
                raise VidsslError(
                    f"{self.name}: {count} frames, but key points of {len(points)} (figure {figure})"
                )
        tables = {"object": self.objects, "uncounted": self.others, "detection": self.detections}
        for what, rows in tables.items():
            if rows is not None and len(rows) and not (rows[:, 0].min() >= 0 and rows[:, 0].max() < count):
                raise VidsslError(
                    f"{self.name}: {count} frames, but {what} rows of frames "
                    f"{rows[:, 0].min() + 1:.0f} to {rows[:, 0].max() + 1:.0f}"
                )

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property
    def size(self) -> tuple[int, int]:
        """(H, W) of its frames in pixels."""
        height, width = self.frames[0].shape[:2]
        return height, width

    def head(self, count: int) -> Sequence:
        """Its first `count` frames, and what is known of them; itself, where it has no more."""
        if count >= len(self):
            return self
        cut: dict[str, Any] = {"frames": Lazy(count, self.frames.__getitem__)}
        for name in ("masks", "detected"):
            maps = getattr(self, name)
            cut[name] = None if maps is None else Lazy(count, maps.__getitem__)
        for name in ("boxes", "corners"):
            values = getattr(self, name)
            cut[name] = None if values is None else values[:count]
        for name in ("objects", "others", "detections"):
            rows = getattr(self, name)
            cut[name] = None if rows is None else rows[rows[:, 0] < count]
        if self.keypoints is not None:
            cut["keypoints"] = {figure: points[:count] for figure, points in self.keypoints.items()}
        return replace(self, **cut)

    def clip(self, start: int = 0, stop: int | None = None) -> Tensor:
        """Frames `start` to `stop` (not included) as floats in [0, 1], RGB (n, 3, H, W).

        Raises:
            VidsslError: a frame that cannot be read, or is of another size than the first.
        """
        shape, chosen = (*self.size, 3), []
        for index in range(len(self))[start:stop]:
            frame = self.frames[index]
            if frame.shape != shape:
                raise VidsslError(
                    f"{self.name}: frame {index} is {frame.shape[1]} x {frame.shape[0]} pixels, "
                    f"the first {shape[1]} x {shape[0]}"
                )
            chosen.append(torch.from_numpy(np.ascontiguousarray(frame)))
        return rearrange(torch.stack(chosen), "t h w c -> t c h w").float() / 255
