"""Frames → a video file: the one way to write an mp4.

>>> write_video("out.mp4", frames, fps=25)   # frames: (T, H, W, 3) uint8, or one after the other
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_value
from vidssl.files import whole_file


def write_video(
    path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: float, lossless: bool = False
) -> Path:
    """Encode RGB frames as H.264 in an MP4 file (x264, yuv420p, a key frame every 8 frames), whole or not at all.

    The same frames give the same bytes every time. Chroma is stored for two by two pixels, so a frame of odd sides gets its
    last row or column once more.

    Args:
        path: the file; parents are created.
        frames: (H, W, 3) uint8 each, all of one size; a generator keeps memory small.
        fps: frames a second, rounded to a fraction with a denominator of at most 1001.
        lossless: what is decoded is then, frame by frame, the conversion of these frames to yuv420p, which of grey ones rounds alone.

    Returns:
        The path.

    Raises:
        VidsslError: for no frames, other shapes or types, frames of several sizes, and an fps outside 0.001 to 1000.
    """
    import av

    path = Path(path)
    check_value(f"{path}: fps", fps, 0.001 <= fps <= 1000, "from 0.001 to 1000")
    pictures = _even(path, frames)
    first = next(pictures, None)
    if first is None:
        raise VidsslError(f"{path}: no frames to write")
    with whole_file(path) as partial, av.open(str(partial), "w", format="mp4") as container:
        stream = cast(Any, container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001)))
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = "yuv420p"
        # Macroblock-tree rate control in assembler gives other bytes from one encoding to the next.
        quality = {"qp": "0"} if lossless else {"crf": "16"}
        stream.options = {**quality, "preset": "veryfast", "g": "8", "x264-params": "cpu-independent=1"}
        stream.thread_count = 1  # reproducible bytes, and no pool of threads for 64 pixels
        for picture in chain([first], pictures):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def _even(path: Path, frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    """The frames, checked, with sides that 4:2:0 chroma can represent."""
    size = None
    for number, frame in enumerate(frames):
        if frame.ndim != 3 or frame.shape[2] != 3 or not frame.size or frame.dtype != np.uint8:
            raise VidsslError(
                f"{path}: frame {number} is {frame.dtype} {frame.shape}: must be uint8 (H, W, 3)"
            )
        size = size or frame.shape
        if frame.shape != size:
            raise VidsslError(
                f"{path}: frame {number} has {frame.shape[1]}x{frame.shape[0]} pixels, those before it {size[1]}x{size[0]}"
            )
        yield np.pad(frame, ((0, size[0] % 2), (0, size[1] % 2), (0, 0)), mode="edge")
