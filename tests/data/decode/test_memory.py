"""Memory of decoding: flat over thousands of files, and no more for a long video than for the frames that are wanted."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from vidssl.data.encode import write_video

SOAK = """
import os, sys
import psutil
from vidssl.data.decode.open import open_video
path, backend, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
me = psutil.Process()
marks = []
def own():  # bytes that no file holds: the kernel may take away pages of files at any time
    with open("/proc/self/status") as status:
        return 1024 * next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))
for number in range(count):
    with open_video(path, backend) as video:
        video.frames([3, 17])
    if number + 1 in (count // 2, count):
        marks.append((own(), me.num_fds()))
print(marks[1][0] - marks[0][0], marks[1][1] - marks[0][1])
"""
PEAK = """
import resource, sys
import numpy as np
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import ClipDataset
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.spec import ViewSpec
views = [ViewSpec("global", 2, 8, size=32)]
data = ClipDataset(VideoIndex.read(sys.argv[2]), views, window_seconds=2.0)
data[(0, 0)]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = ClipDataset(VideoIndex.read(sys.argv[1]), views, window_seconds=2.0)
for epoch in range(6):
    data[(epoch, 0)]
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def moving(frames: int, height: int = 48, width: int = 64) -> np.ndarray:
    t, y, x = np.ogrid[:frames, :height, :width]
    return np.stack([(x + t) % 256 + 0 * y, (y + 2 * t) % 256 + 0 * x, (x + y) % 256 + 0 * t], -1).astype(
        np.uint8
    )


def said(script: str, *arguments: str) -> list[int]:
    command = [sys.executable, "-c", script, *arguments]
    return [
        int(word)
        for word in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    ]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
@pytest.mark.parametrize("backend", ["pyav", "decord", "torchcodec", "auto"])
def test_two_thousand_openings_leave_no_memory_behind(backend: str, tmp_path: Path) -> None:
    if backend in ("decord", "torchcodec"):
        pytest.importorskip(backend)
    file = write_video(tmp_path / "a.mp4", moving(40), 10)
    memory, files = said(SOAK, str(file), backend, "2000")
    assert files == 0
    assert memory < 6e6  # bytes; one leaked frame each would be 9 MB, one leaked decoder several hundred


@pytest.mark.slow
def test_an_hour_of_video_needs_the_memory_of_a_window(tmp_path: Path) -> None:
    """90,000 small frames are 829 MB; a window of two seconds is half a MB, and their time stamps are 0.7 MB."""
    short = write_video(tmp_path / "short/c/a.mp4", moving(100), 25)
    piece = [
        av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="yuv420p") for frame in moving(250)
    ]
    (tmp_path / "hour/c").mkdir(parents=True)
    with av.open(str(tmp_path / "hour/c/a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(3600 * 25):
            frame = piece[number % 250]
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    grown = said(PEAK, str(tmp_path / "hour"), str(short.parents[1]))[0] * 1024
    assert grown < 40e6, grown
