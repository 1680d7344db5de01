"""Moving thumbnails of videos, as data inside the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vidssl.data.clips import ClipSpec
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.patches.videos import whole_videos

FRAMES, SIDE, QUALITY = 10, 80, 45
MOST = 4000  # milliseconds of a round, however long the video is
FEWEST = 60  # milliseconds of a frame


def thumbnails(index: VideoIndex, rows: Sequence[int], *, workers: int = 0) -> dict[int, str]:
    """Row of the index -> data URI of an animated WebP, frames spread over the whole video, at its speed where it is
    short; "" for a video that cannot be read.

    Args:
        rows: which videos; each is decoded once.
    """
    wanted = sorted(set(rows))
    if not wanted:
        return {}
    found = {}
    clip = ClipSpec(FRAMES, seconds=float("inf"))
    for row, video in zip(
        wanted, whole_videos(index.subset(wanted), clip, SIDE, workers=workers), strict=True
    ):
        found[row] = (
            "" if video.failure is not None else animated(video.frames.numpy(), _seconds(video.times))
        )
    return found


def _seconds(times: Tensor) -> float:
    return float(times[-1]) - float(times[0])


def animated(frames: NDArray[np.uint8], seconds: float) -> str:
    """(T, H, W, 3) frames -> the data URI of a WebP that shows them again and again, one round in about `seconds`."""
    pictures = [Image.fromarray(frame) for frame in frames]
    duration = int(min(max(1000 * seconds, FEWEST * len(pictures)), MOST) / len(pictures))
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=pictures[1:],
        duration=duration,
        loop=0,
        quality=QUALITY,
        method=4,
    )
    return data_uri(buffer.getvalue(), "image/webp")


def data_uri(content: bytes, kind: str) -> str:
    """Bytes as a data URI."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
