"""`vidssl geometry` as the user types it."""

from __future__ import annotations

import json

import pytest

from tests.command_line import one_line

FAST = ("--workers", 0, "--device", "cpu", "--seconds", 0.5)


def test_a_run_beside_its_start_another_encoder_and_noise(vidssl, checkpoint, sprites, tmp_path):
    arguments = (
        "geometry",
        checkpoint,
        sprites / "val",
        *FAST,
        "--against",
        "conv3d/small",
        "--output",
        tmp_path / "out",
    )
    code, out, err = vidssl(*arguments)
    assert code == 0, err
    result = json.loads((tmp_path / "out" / "geometry.json").read_text())
    assert list(result["rows"]) == ["trained", "untrained", "white noise of this size", "conv3d/small"]
    assert 1 <= result["rows"]["trained"]["rankme"] <= 9 and result["rows"]["trained"]["whole"] == 9
    assert result["rows"]["trained"]["lidar"] is not None
    cka = result["cka"]
    assert cka["encoders"]["trained"]["trained"] == pytest.approx(1)
    assert cka["encoders"]["trained"]["conv3d/small"] < 0.999
    names = cka["layers"]["trained"]["names"]
    assert names == ["0", "1", "output"] and len(cka["start"]) == 3
    assert all(row[i] == pytest.approx(1) for i, row in enumerate(cka["layers"]["trained"]["cka"]))
    drift = result["drift"]
    assert 0 < drift["weights"]["relative"] < 0.1 and drift["weights"]["new"] == []
    assert drift["features"]["cka"] == pytest.approx(cka["encoders"]["trained"]["untrained"], abs=0.2)
    assert "weights moved by" in out and "ranks cannot exceed the number of videos" in out
    assert (tmp_path / "out" / "geometry.png").stat().st_size > 10_000


def test_a_broken_video_is_left_out_and_named(vidssl, sprites, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "videos"
    folder.mkdir()
    for number, file in enumerate(sorted((sprites / "val").rglob("*.mp4"))[:6]):
        (folder / f"{number}.mp4").write_bytes(file.read_bytes())
    clean, with_broken = [], []
    for found in (clean, with_broken):
        code, out, err = vidssl(
            "geometry",
            "conv3d/small",
            folder,
            *FAST,
            "--frames",
            4,
            "--size",
            16,
            "--no-plots",
            "--output",
            "out",
        )
        assert code == 0, err
        found.append((json.loads((tmp_path / "out" / "geometry.json").read_text()), out))
        (folder / "9.mp4").write_bytes(b"no video")
    (first, _), (second, out) = clean[0], with_broken[0]
    assert second["rows"]["trained"] == pytest.approx(first["rows"]["trained"])
    assert second["cka"]["layers"]["trained"] == first["cka"]["layers"]["trained"]
    assert "left out: " in out and "9.mp4" in out and first["drift"] is None
    assert first["protocol"]["hash"] != second["protocol"]["hash"]


def test_mistakes_are_one_line(vidssl, sprites):
    said = one_line(*vidssl("geometry", "conv3d/small", sprites / "val", "--against", "conv3d/small", *FAST))
    assert "conv3d/small: is named twice" in said
    said = one_line(*vidssl("geometry", "conv3d/small", sprites / "val", "--videos", 3, *FAST))
    assert "videos=3: must be at least 4" in said
