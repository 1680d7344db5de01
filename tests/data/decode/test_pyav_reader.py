from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.conftest import numbers_of, write_numbered
from vidssl.data.decode import pyav_reader
from vidssl.data.decode.pyav_reader import PyAVReader


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for every frame that the PyAV reader decodes."""
    counted: list[int] = []

    def watch(name: str) -> None:
        original = getattr(pyav_reader, name)

        def counting(*args: Any, **kwargs: Any) -> Iterator[Any]:
            for frame in original(*args, **kwargs):
                counted.append(frame.pts)
                yield frame

        monkeypatch.setattr(pyav_reader, name, counting)

    watch("decoded_frames")
    watch("decoded_now")
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


def test_pictures_that_no_other_refers_to_are_not_decoded(
    tmp_path: Path, decoded: Iterator[list[int]]
) -> None:
    order = "b-adapt=0:b-pyramid=none:scenecut=0:weightp=0"  # P B B B P B B B …
    path = write_numbered(tmp_path / "a.mp4", gop_size=40, options={"bf": "3", "x264-params": order})
    (counted,) = decoded
    with PyAVReader(path) as video:
        timeline = video._timeline
        assert numbers_of(video.frames([2, 7])) == [2, 7]
        assert len(counted) == 5  # and 0, 4, 8, to which they refer
        counted.clear()
        assert numbers_of(video.frames([12])) == [12]  # nothing that comes after it
        assert len(counted) == 4
    with PyAVReader(path, replace(timeline, container="mpegts")) as video:  # where this is not done
        counted.clear()
        assert numbers_of(video.frames([2, 7])) == [2, 7]
        assert len(counted) >= 8


def test_what_does_not_come_as_it_should_is_decoded_the_plain_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_numbered(tmp_path / "a.mp4", gop_size=10)
    original = pyav_reader.decoded_now

    def without_one(packet: Any, drain: bool) -> Iterator[Any]:
        for frame in original(packet, drain):
            if frame.pts != video._timeline.pts[24]:
                yield frame

    monkeypatch.setattr(pyav_reader, "decoded_now", without_one)
    with PyAVReader(path) as video:
        assert numbers_of(video.frames([3, 21, 24, 38])) == [3, 21, 24, 38]
        assert video._container()[1].codec_context.pix_fmt  # FFmpeg has looked at the file itself


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_nothing_is_decoded_to_open_a_file_that_is_known(tmp_path: Path, codec: str) -> None:
    """The frames are the same as where FFmpeg first decodes some to find out what it opened."""
    path = write_numbered(tmp_path / "a.mp4", codec=codec, gop_size=15, options={"bf": "3"})
    at = [0, 1, 13, 14, 15, 29, 30, 39]
    with PyAVReader(path) as quick, PyAVReader(path) as plain:
        plain._quick = False
        assert np.array_equal(quick.frames(at), plain.frames(at))
        assert numbers_of(quick.frames(at)) == at
    if codec == "libx265":  # which tells with its header what others tell by decoding
        return
    with PyAVReader(path) as video:
        assert video._container()[1].codec_context.pix_fmt is None
        video._open_plainly()
        assert video._container()[1].codec_context.pix_fmt == "yuv420p"


def test_a_false_key_frame_is_seen_through(tmp_path: Path) -> None:
    """Without its table of key frames every sample of an mp4 passes for one."""
    path = write_numbered(tmp_path / "a.mp4", gop_size=40, options={"bf": "0", "sc_threshold": "0"})
    data = path.read_bytes()
    assert data.count(b"stss") == 1
    path.write_bytes(data.replace(b"stss", b"free"))
    with PyAVReader(path) as video:
        assert numbers_of(video.frames([33, 35])) == [33, 35]
        assert numbers_of(video.frames([0, 20, 39])) == [0, 20, 39]


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to count threads")
def test_converting_starts_no_threads(tmp_path: Path) -> None:
    def threads() -> int:
        return len([*Path("/proc/self/task").iterdir()])

    with PyAVReader(write_numbered(tmp_path / "a.mp4", frames=3)) as video:
        frames, before = video.each([0, 1]), threads()
        next(frames)
        assert threads() == before
