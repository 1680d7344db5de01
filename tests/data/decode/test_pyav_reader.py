from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.data.conftest import numbers_of, write_numbered
from vidssl.data.decode import pyav_reader
from vidssl.data.decode.pyav_reader import PyAVReader


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for every frame that the PyAV reader decodes."""
    counted: list[int] = []
    original = pyav_reader.decoded_frames

    def counting(packets: Any) -> Iterator[Any]:
        for frame in original(packets):
            counted.append(frame.pts)
            yield frame

    monkeypatch.setattr(pyav_reader, "decoded_frames", counting)
    return iter([counted])  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
def test_a_short_window_of_a_long_file_decodes_little(
    tmp_path: Path, decoded: Iterator[list[int]], name: str
) -> None:
    path = write_numbered(tmp_path / name, frames=300, gop_size=10, options={"bf": "0", "sc_threshold": "0"})
    (counted,) = decoded
    with PyAVReader(path) as video:
        assert numbers_of(video.frames([257, 259])) == [257, 259]
        assert len(counted) <= 10
        counted.clear()
        assert numbers_of(video.frames([0, 100, 299])) == [0, 100, 299]
        assert len(counted) <= 1 + 1 + 10


def test_a_false_key_frame_is_seen_through(tmp_path: Path) -> None:
    """Without its table of key frames every sample of an mp4 passes for one."""
    path = write_numbered(tmp_path / "a.mp4", gop_size=40, options={"bf": "0", "sc_threshold": "0"})
    data = path.read_bytes()
    assert data.count(b"stss") == 1
    path.write_bytes(data.replace(b"stss", b"free"))
    with PyAVReader(path) as video:
        assert numbers_of(video.frames([33, 35])) == [33, 35]
        assert numbers_of(video.frames([0, 20, 39])) == [0, 20, 39]
