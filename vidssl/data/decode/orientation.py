"""Turning frames upright: the eight orientations that a container's display matrix can ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av.video.frame import VideoFrame


class Orientation(NamedTuple):
    """How a decoded frame becomes upright: transpose, then flip left-right (x) and top-bottom (y)."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    @classmethod
    def of(cls, frame: VideoFrame) -> Orientation:
        """The orientation that the frame's display matrix asks for; odd angles go to the nearest quarter turn."""
        try:
            matrix: Any = frame.side_data.get("DISPLAYMATRIX")
        except ValueError:  # PyAV cannot list side data of kinds it does not know (seen with stereo HEVC)
            quarter_turns = round(-frame.rotation / 90) % 4  # clockwise; a mirror would go unseen here
            return (cls(), cls(True, True, False), cls(False, True, True), cls(True, False, True))[
                quarter_turns
            ]
        if matrix is None:
            return cls()
        # Row vectors: (x, y) is shown at (a x + c y, b x + d y); the entries are 16.16 fixed point, the signs suffice.
        a, b, _, c, d = np.frombuffer(bytes(matrix), dtype="<i4")[:5].tolist()
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    @property
    def mirrored(self) -> bool:
        """Whether the picture is seen in a mirror, so that no rotation alone makes it upright."""
        return (self.transpose + self.flip_x + self.flip_y) % 2 == 1

    def apply(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A view of ``frame`` (H, W, 3) as it is meant to be seen."""
        upright = frame.transpose(1, 0, 2) if self.transpose else frame
        return upright[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]
