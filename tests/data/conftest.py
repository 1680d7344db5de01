"""Videos that carry their frame number in the picture, so that a test can tell exactly which frame it got."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

HEIGHT, WIDTH, BITS, BLOCK = 48, 80, 10, 8
SHARED = Path(__file__).parents[2] / "../shared/data"


def numbered_frame(number: int) -> NDArray[np.uint8]:
    """(48, 80, 3) grey picture; its top 16 rows show ``number`` as ten black or white blocks, lowest bit left."""
    frame = np.full((HEIGHT, WIDTH, 3), 90, dtype=np.uint8)
    frame[16:] += np.arange(WIDTH, dtype=np.uint8)[None, :, None]
    bits = np.array([number >> bit & 1 for bit in range(BITS)], dtype=np.uint8)
    frame[:16] = np.repeat(bits * 255, BLOCK)[None, :, None]
    return frame


def numbers_of(frames: NDArray[np.uint8]) -> list[int]:
    """The numbers that upright frames (N, 48, 80, 3) carry."""
    assert frames.shape[1:] == (HEIGHT, WIDTH, 3), frames.shape
    blocks = frames[:, 4:12, :, :].mean((1, 3)).reshape(len(frames), BITS, BLOCK)[..., 2:6].mean(-1) > 128
    return [int(sum(1 << bit for bit in np.flatnonzero(row))) for row in blocks]


def write_numbered(
    path: Path,
    frames: int = 40,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    fps: int = 25,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    matrix: Sequence[int] | None = None,
    container_format: str | None = None,
    **context: Any,
) -> Path:
    """Write frames 0, 1, … to ``path``.

    Args:
        stamps: presentation times in units of 1/fps; 0, 1, 2, … by default.
        options, container: of the encoder and the container. context: attributes of the codec context.
        matrix: nine entries of the display matrix.
    """
    with av.open(str(path.absolute()), "w", format=container_format, options=container or {}) as output:
        stream = output.add_stream(codec, rate=fps, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        stream.codec_context.time_base = Fraction(1, fps)
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts = number if stamps is None else stamps[number]
            frame.time_base = Fraction(1, fps)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary mp4 of 40 numbered frames at 25 per second, with B-frames and a key frame every 10 frames."""
    path = tmp_path_factory.mktemp("numbered") / "video.mp4"
    return write_numbered(path, gop_size=10, options={"bf": "2", "sc_threshold": "0"})


@pytest.fixture(scope="session")
def odd_videos() -> Path:
    """Folder of broken and unusual files, if this checkout lies beside the shared data."""
    folder = SHARED / "odd_videos"
    if not folder.is_dir():
        pytest.skip("the shared folder of odd videos is not here")
    return folder.resolve()
