"""Videos whose frames stay in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vidssl.data.decode.kept import KeptVideos
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError
from vidssl.data.encode import write_video


def test_a_video_is_decoded_once_and_is_the_same_video(tmp_path: Path) -> None:
    file, opened = tmp_path / "a.mp4", []
    write_video(file, np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3), dtype=np.uint8), 8)

    def opener(path: Path):
        opened.append(path)
        return open_video(path)

    kept = KeptVideos(opener)
    for indices in ([5, 0, 0], [2]):
        with kept(file) as video, open_video(file) as plain:
            assert np.array_equal(video.frames(indices), plain.frames(indices))
            assert np.array_equal(video.times, plain.times) and video.info == plain.info
            with pytest.raises(IndexError):
                video.frames([6])
    assert opened == [file]


def test_a_broken_video_is_asked_again(tmp_path: Path) -> None:
    file, kept = tmp_path / "b.mp4", KeptVideos(open_video)
    file.write_bytes(b"no video")
    with pytest.raises(DecodeError):
        kept(file)
    write_video(file, np.zeros((4, 32, 32, 3), dtype=np.uint8), 8)
    with kept(file) as video:
        assert video.frames([3]).shape == (1, 32, 32, 3)
