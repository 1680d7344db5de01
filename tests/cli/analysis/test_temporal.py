"""`vidssl temporal` as the user types it."""

from __future__ import annotations

import json

from tests.command_line import one_line

FAST = ("--frames", 4, "--size", 16, "--device", "cpu", "--workers", 0)


def test_rendered_noise_and_a_named_model(vidssl, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = vidssl("temporal", "conv3d/small", "--rendered", 4, *FAST)
    assert code == 0, err
    for row in (
        "frame order",
        "playback direction",
        "speed",
        "classes, one frame",
        "classes, mean of frames",
    ):
        assert row in out
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("temporal-conv3d-small-noise-")
    result = json.loads((folder / "temporal.json").read_text())
    assert result["figures"] == ["temporal.png"] and (folder / "temporal.png").stat().st_size > 10_000
    assert result["scores"]["chance, classes"] == {"top1": 0.25} and result["data"]["videos"] == 16
    assert "conv3d/small names no weights: these are random" in out


def test_own_videos_of_a_run_beside_the_encoder_it_began_with(vidssl, checkpoint, sprites, tmp_path):
    arguments = ("temporal", checkpoint, sprites / "val", "--device", "cpu", "--workers", 0, "--no-plots")
    code, out, err = vidssl(*arguments, "--output", tmp_path / "out")
    assert code == 0, err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["temporal.json"]
    result = json.loads((tmp_path / "out" / "temporal.json").read_text())
    assert result["classes"]["names"] == ["growing", "moving_left", "moving_right"]
    assert result["comparisons"]["trained, classes"]["to"] == "untrained, classes" in out
    assert "trained, classes - trained, classes, one frame" in out


def test_mistakes_are_one_line(vidssl, tmp_path):
    assert "clips=2: must be at least 4" in one_line(*vidssl("temporal", "conv3d/small", "--rendered", 2))
    assert "seconds=1: noise is rendered" in one_line(*vidssl("temporal", "conv3d/small", "--seconds", 1))
    assert not (tmp_path / "results").exists()


def test_such_videos_can_be_had_to_train_on(vidssl, tmp_path):
    arguments = ("data", "render", "noise", tmp_path / "set", "--frames", 4, "--shots", 2, "--size", 16)
    code, out, _ = vidssl(*arguments, "--train", 2, "--val", 1)
    assert code == 0 and "8 videos to train on and 4 others" in out
    assert len([*(tmp_path / "set" / "train" / "drifting_up").glob("*.mp4")]) == 2
    assert "is not empty" in one_line(*vidssl(*arguments))
    assert "shots=3" in one_line(
        *vidssl("data", "render", "noise", tmp_path / "new", "--shots", 3, "--frames", 4)
    )
    assert not (tmp_path / "new").exists()
