from __future__ import annotations

import pickle
from pathlib import Path

from tests.data.conftest import HEIGHT, WIDTH
from vidssl.data.decode.open import DecodeError, VideoInfo, probe_video


def test_decode_error_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(DecodeError("a.mp4", "auto", "decord: x; PyAV: y")))
    assert (error.path, error.backend, error.reason) == (Path("a.mp4"), "auto", "decord: x; PyAV: y")
    assert str(error) == "a.mp4: no video stream could be decoded (decord: x; PyAV: y)"


def test_info_is_plain(numbered: Path) -> None:
    assert probe_video(str(numbered)) == VideoInfo(
        num_frames=40, fps=25.0, duration=1.6, height=HEIGHT, width=WIDTH
    )
