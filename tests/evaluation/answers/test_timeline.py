"""Scores over time: windows by hand and as clips are cut, and a video whose pictures change in its middle."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vidssl.data.clips import ClipSpec, uniform_clips
from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation.answers.timeline import filled, over_time_figure, windows_of


def test_windows_by_hand():
    times = np.arange(40) / 10  # 4 s
    assert windows_of(times, 2.0, 2.0) == [(0, 2), (2, 4)]
    starts = [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3]
    np.testing.assert_allclose(windows_of(times, 1.0), [(start, start + 1) for start in starts])
    [(start, stop)] = windows_of(times, 9.0, 0.1)
    assert (start, stop) == (0, pytest.approx(4))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 200), st.floats(0.05, 30), st.floats(0.2, 10))
def test_the_frames_of_a_window_are_those_of_its_clip(frames, seconds, every):
    times = np.arange(frames) / 8
    windows = windows_of(times, seconds, every)
    clips = uniform_clips(times, ClipSpec(4, seconds=seconds), len(windows)).times
    assert windows[0][0] >= 0 and windows[-1][1] <= times[-1] + 1 / 8 + 1e-9
    assert all(b[0] - a[0] <= every + 1e-9 for a, b in itertools.pairwise(windows))
    for (start, stop), shown in zip(windows, clips, strict=True):
        assert shown.min() >= start - 1 / 8 and shown.max() < stop + 1e-9


def test_windows_that_cannot_be():
    times = np.arange(40) / 10
    for window, every in ((0, None), (-1, None), (float("nan"), None), (1, 0), (1, float("inf")), (1, 1e-4)):
        with pytest.raises(VidsslError, match=r"window|every"):
            windows_of(times, window, every)


def test_windows_of_the_same_frames_have_the_same_scores():
    rows = torch.tensor([[1.0], [0], [2], [0], [0]])
    shown = torch.tensor([True, False, True, False, False])
    assert filled(rows, shown)[:, 0].tolist() == [1, 1, 2, 2, 2]


def test_the_picture_has_the_classes_that_lead_somewhere():
    parts = [
        {"start": i, "end": i + 1, "probabilities": {f"class {j}": float(i == j) for j in range(8)}}
        for i in range(3)
    ]
    [axes] = over_time_figure(parts).axes
    assert {line.get_label() for line in axes.lines} >= {"class 0", "class 1", "class 2"}
    assert len(axes.lines) == 6
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [0.5, 1.5, 2.5])


def test_a_video_that_changes_in_its_middle_changes_its_scores_there(vidssl, tiny_clip, tmp_path):
    from tests.command_line import FAST, one_line

    rng = np.random.default_rng(0)
    first, second = (np.repeat(rng.integers(0, 255, (1, 4, 4, 3)).astype(np.uint8), 16, 0) for _ in range(2))
    first, second = (video.repeat(8, 1).repeat(8, 2) for video in (first, second))
    for name, frames in (("first", first), ("second", second), ("both", np.concatenate([first, second]))):
        write_video(tmp_path / f"{name}.mp4", frames, fps=8)
    made = {}
    base = ("--labels", "red, a green field, noise", "--frames", 2, *FAST, "--no-cache")
    encoder = f"local-dir:{tiny_clip}"
    for name in ("first", "second", "both"):
        file, more = (
            tmp_path / f"{name}.json",
            ("--window", 1, "--every", 1, "--plot", tmp_path / f"{name}.png"),
        )
        code, out, _ = vidssl("classify", encoder, tmp_path / f"{name}.mp4", *base, *more, "--output", file)
        assert code == 0 and "0.00 to 1.00 s: " in out
        made[name] = json.loads(file.read_text())
    parts = made["both"]["over_time"]
    assert [(part["start"], part["end"]) for part in parts] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for place, name in enumerate(("first", "first", "second", "second")):
        for label, value in made[name]["probabilities"].items():
            assert parts[place]["probabilities"][label] == pytest.approx(value, abs=0.02)
    apart = [made[name]["probabilities"]["noise"] for name in ("first", "second")]
    assert abs(apart[0] - apart[1]) > 0.05  # else this would say nothing
    with Image.open(tmp_path / "both.png") as picture:
        assert picture.size[0] > 500
    both = tmp_path / "both.mp4"
    assert "give --window too" in one_line(*vidssl("classify", encoder, both, *base, "--plot", "x.png"))
    assert "give window too" in one_line(*vidssl("classify", encoder, both, *base, "--every", 1))
    assert "seconds above 0" in one_line(*vidssl("classify", encoder, both, *base, "--window", 0))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    assert "broken.mp4" in one_line(
        *vidssl("classify", encoder, tmp_path / "broken.mp4", *base, "--window", 1)
    )
