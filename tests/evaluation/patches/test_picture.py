"""Colours of a video: three files or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vidssl.data.decode.open import open_video
from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation.patches import picture
from vidssl.evaluation.patches.picture import pca


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A bright square that moves right over a dark ground; 30 frames of 50 x 78 pixels, 25 a second."""
    frames = np.full((30, 50, 78, 3), 30, np.uint8)
    for t in range(30):
        frames[t, 16:32, t : t + 16] = (230, 200, 40)
    return write_video(tmp_path / "in" / "video.mp4", frames, 25)


def test_a_video_a_strip_and_what_was_seen(video: Path, tmp_path: Path) -> None:
    record = pca(
        "conv3d/small", video, tmp_path / "out" / "a.mp4", frames=10, size=49, layer=1, stride=4, device="cpu"
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "a.mp4", "a.png"]
    assert json.loads((tmp_path / "out" / "a.json").read_text()) == record
    assert record["frames"] == 10
    height, width = record["frame_size"]
    assert height == 49
    with Image.open(tmp_path / "out" / "a.png") as strip:
        assert strip.size == (8 * 3 * width, 2 * 3 * height)  # enlarged three times
        drawn = np.asarray(strip)
    with open_video(tmp_path / "out" / "a.mp4") as movie:
        assert movie.info.num_frames == 10
        assert movie.info.fps == pytest.approx(9 / (27 / 25), rel=0.01)  # at the speed of the video
        last = movie.frames([9])[0].astype(float)
    shown = drawn[:, -3 * width :].astype(float)
    assert np.abs(last[: shown.shape[0], : shown.shape[1]] - shown).mean() < 12
    colours = drawn[3 * height :]
    first, final = colours[:, : 3 * width], colours[:, -3 * width :]
    # the ground has one colour from the first frame to the last, and the square another
    ground, square = first[3 * 44, 3 * 60], first[3 * 24, 3 * 10]
    assert np.abs(final[3 * 44, 3 * 8].astype(int) - ground).max() <= 2
    assert np.abs(square.astype(int) - ground).max() > 60


def test_what_cannot_be_drawn_leaves_nothing(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = video.with_name("broken.mp4")
    broken.write_bytes(b"was never a video")
    out = tmp_path / "out"
    for file, output, options, said in (
        (broken, out / "a.mp4", {}, "broken.mp4"),
        (video, out / "a.avi", {}, r"a\.avi: the video needs the ending \.mp4"),
        (video, out / "a.mp4", {"layer": 4}, "layer=4: must be from 0 to 3"),
        (video, out / "a.mp4", {"frames": 0}, "frames=0: must be at least 1"),
        (video, out / "a.mp4", {"size": 0}, "size=0: must be at least 1 pixel"),
    ):
        with pytest.raises(VidsslError, match=said):
            pca("conv3d/small", file, output, device="cpu", **options)  # type: ignore[arg-type]

    def full(file: Path, pairs: object) -> None:
        raise VidsslError(f"{file}: cannot be written: No space left on device")

    monkeypatch.setattr(picture, "_write_strip", full)
    with pytest.raises(VidsslError, match="No space left"):
        pca("conv3d/small", video, out / "a.mp4", frames=2, device="cpu")
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("times", "rate"), [([0.0, 0.5, 1.0], 2.0), ([0.0], 1.0), ([0.0, 0.0], 1.0), ([0.0, 1e-6], 120.0)]
)
def test_the_speed_is_that_of_the_video(times: list[float], rate: float) -> None:
    assert picture._rate(torch.tensor(times)) == pytest.approx(rate)
