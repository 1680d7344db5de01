"""The one writer of mp4 files: what comes back, to the same bytes, whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vidssl.data.encode import write_video
from vidssl.errors import VidsslError

RAMP = np.linspace(0, 200, 64)


def clip(frames: int = 12, height: int = 64, width: int = 64) -> NDArray[np.uint8]:
    """A bright bar that moves three pixels a frame over a smooth background of another colour in each channel."""
    video = np.zeros((frames, height, width, 3))
    video += RAMP[:height, None, None] * [1.0, 0.5, 0.0] + RAMP[None, :width, None] * [0.0, 0.2, 1.0]
    for t in range(frames):
        video[t, :, 4 + 3 * t : 10 + 3 * t] = 250
    return video.astype(np.uint8)


def decode(path: Path) -> tuple[NDArray[np.uint8], Fraction]:
    import av

    with av.open(str(path)) as container:
        rate = container.streams.video[0].average_rate
        assert rate is not None
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]), rate


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_frames_come_back_in_order_at_their_rate(tmp_path: Path) -> None:
    video = clip()
    write_video(tmp_path / "new" / "a.mp4", iter(video), 30000 / 1001)
    decoded, rate = decode(tmp_path / "new" / "a.mp4")
    assert decoded.shape == video.shape
    assert rate == Fraction(30000, 1001)
    assert psnr(decoded, video) > 28
    assert psnr(decoded[1:], video[:-1]) < psnr(decoded, video) - 3
    write_video(tmp_path / "b.mp4", video, 30000 / 1001)
    assert (tmp_path / "b.mp4").read_bytes() == (tmp_path / "new" / "a.mp4").read_bytes()


def test_odd_sides_get_their_last_row_and_column_once_more(tmp_path: Path) -> None:
    video = clip()[:, :63, :61]
    write_video(tmp_path / "a.mp4", video, 8)
    decoded, _ = decode(tmp_path / "a.mp4")
    assert decoded.shape == (12, 64, 62, 3)
    assert psnr(decoded[:, :63, :61], video) > 28
    assert psnr(decoded[:, 63, :61], video[:, 62]) > 24


@pytest.mark.parametrize(
    ("frames", "fps", "said"),
    [
        ([], 8, "no frames to write"),
        ([clip()], 8, r"frame 0 is uint8 \(12, 64, 64, 3\): must be uint8 \(H, W, 3\)"),
        (clip().astype(float), 8, r"frame 0 is float64"),
        (clip()[..., :0, :], 8, r"frame 0 is uint8 \(64, 0, 3\)"),
        ([clip()[0], clip()[0, :30]], 8, "frame 1 has 64x30 pixels, those before it 64x64"),
        (clip(), 0, "fps=0: must be from 0.001 to 1000"),
        (clip(), float("nan"), "fps=nan"),
    ],
)
def test_what_cannot_be_written_leaves_what_is_there(tmp_path: Path, frames, fps, said) -> None:  # type: ignore[no-untyped-def]
    file = write_video(tmp_path / "a.mp4", clip(), 8)
    before = file.read_bytes()
    with pytest.raises(VidsslError, match=said):
        write_video(file, frames, fps)
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


def test_a_source_that_breaks_leaves_what_is_there(tmp_path: Path) -> None:
    def breaks() -> Iterator[NDArray[np.uint8]]:
        yield clip()[0]
        raise RuntimeError("source broke")

    with pytest.raises(RuntimeError, match="source broke"):
        write_video(tmp_path / "a.mp4", breaks(), 8)
    assert list(tmp_path.iterdir()) == []
