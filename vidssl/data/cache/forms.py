"""How a kept frame is written: as it is, or as a JPEG."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUALITY = 92  # of a JPEG; about 41 dB at a twentieth of the bytes

Frame = NDArray[np.uint8]


class Form(NamedTuple):
    """Of one frame (H, W, 3) uint8: `write` gives its bytes, `read` fills a frame of the right size with them, with other pixels
    than it had; None where the bytes are the frame's own."""

    write: Callable[[Frame], bytes | memoryview]
    read: Callable[[bytes | memoryview, Frame], None] | None


def _to_jpeg(frame: Frame) -> bytes:
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(frame), quality=QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return data


def _from_jpeg(data: bytes | memoryview, frame: Frame) -> None:
    import simplejpeg

    simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=frame)


FORMS = {
    "raw": Form(lambda frame: np.ascontiguousarray(frame).data.cast("B"), None),
    "jpeg": Form(_to_jpeg, _from_jpeg),
}
