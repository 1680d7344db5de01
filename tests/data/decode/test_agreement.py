"""Every decoder that takes a file delivers the same frames of it, whichever it is."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from tests.data.conftest import SHARED, write_numbered
from vidssl.data.decode.open import find_timeline, loadable_decoders, open_video
from vidssl.data.decode.reader import DecodeError

LEVELS = 1.0  # mean difference of colours at most: decoders round the conversion from YUV otherwise
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared videos")


def disagreements(path: Path) -> dict[str, float]:
    """By decoder, the mean difference of its frames from PyAV's, of those that take the file; empty where none but PyAV does."""
    try:
        timeline = find_timeline(path)
        count = timeline.info.num_frames
        wanted = np.unique(
            np.array([0, count // 3, count // 3 + 1, 2 * count // 3, count - 1]).clip(0, count - 1)
        )
        with open_video(path, "pyav", timeline) as video:
            expected = video.frames(wanted).astype(int)
    except DecodeError:
        return {}
    found = {}
    for name in loadable_decoders():
        if name == "pyav":
            continue
        try:
            with open_video(path, name, timeline) as video:
                frames = video.frames(wanted).astype(int)
        except DecodeError:
            continue
        found[name] = float(np.abs(frames - expected).mean())
    return found


def files_of(kind: str) -> list[Path]:
    folder = SHARED / kind
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as lines:
        return [folder / row["path"] for row in csv.DictReader(lines)]


def check(paths: list[Path]) -> int:
    taken = {path: disagreements(path) for path in paths}
    bad = {path: found for path, found in taken.items() if any(value > LEVELS for value in found.values())}
    assert not bad, bad
    return sum(len(found) for found in taken.values())


@pytest.mark.parametrize(("kind", "step"), [("videos", 400), ("odd_videos", 20)])
def test_decoders_agree_on_some_real_files(kind: str, step: int) -> None:
    if loadable_decoders() == ("pyav",):
        pytest.skip("needs a second decoder")
    assert check(files_of(kind)[::step]) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["videos", "odd_videos"])
def test_decoders_agree_on_all_files(kind: str) -> None:
    paths = files_of(kind)
    assert check([path for path in paths if "long_1080p" not in path.name]) >= len(paths) // 3


def test_another_frame_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control: a decoder that is one frame late."""
    if "decord" not in loadable_decoders():
        pytest.skip("needs decord")
    from vidssl.data.decode.decord_reader import DecordReader

    path = write_numbered(tmp_path / "a.mp4")
    assert disagreements(path)["decord"] < LEVELS
    original = DecordReader._decode
    monkeypatch.setattr(
        DecordReader, "_decode", lambda self, wanted: original(self, np.maximum(wanted - 1, 0))
    )
    assert disagreements(path)["decord"] > LEVELS
