"""How a kept frame is written: as it is, or as a JPEG."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

QUALITY = 92  # of a JPEG; about 41 dB at a twentieth of the bytes

Frame = NDArray[np.uint8]


class Form(NamedTuple):
    """Of one frame (H, W, 3) uint8: `write` gives its bytes, `read` fills a frame of the right size with them, which `changes`
    its pixels or not."""

    write: Callable[[Frame], bytes | memoryview]
    read: Callable[[bytes, Frame], None]
    changes: bool


def _to_jpeg(frame: Frame) -> bytes:
    import simplejpeg

    data: bytes = simplejpeg.encode_jpeg(
        np.ascontiguousarray(frame), quality=QUALITY, colorspace="RGB", colorsubsampling="420"
    )
    return data


def _from_jpeg(data: bytes, frame: Frame) -> None:
    import simplejpeg

    simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=frame)


def _from_raw(data: bytes, frame: Frame) -> None:
    frame[...] = np.frombuffer(data, np.uint8).reshape(frame.shape)


FORMS = {
    "raw": Form(lambda frame: np.ascontiguousarray(frame).data.cast("B"), _from_raw, changes=False),
    "jpeg": Form(_to_jpeg, _from_jpeg, changes=True),
}
