"""Patch features and their colours as a user types the commands."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from tests.command_line import FAST, one_line


def test_extract_patches(vidssl, checkpoint, sprites, tmp_path):
    file = tmp_path / "f.safetensors"
    code, out, _ = vidssl(
        "extract", checkpoint, sprites / "val", file, "--patches", "--patch-stride", 4, "--half", *FAST
    )
    assert code == 0
    assert "patch features of 9 of 9 videos, 0.3 MB of float16; layer 1, stride 4, D = 64, static" in out
    tensors = load_file(file)
    assert len(tensors) == 9
    assert tensors["8"].shape == (4, 64, 8, 8)
    record = json.loads((tmp_path / "f.json").read_text())
    assert record["sampling"]["frames"] == 4
    assert record["patches"]["dtype"] == "float16"


@pytest.mark.parametrize("option", [("--layer", 0), ("--patch-stride", 4), ("--mode", "static"), ("--half",)])
def test_options_of_patches_need_patches(vidssl, checkpoint, sprites, tmp_path, option):
    result = vidssl("extract", checkpoint, sprites / "val", tmp_path / "f.safetensors", *option, *FAST)
    assert f"{option[0]}: is of patch features; give --patches too" in one_line(*result)
    assert list(tmp_path.iterdir()) == []


def test_wrong_strides_are_one_line(vidssl, checkpoint, sprites, tmp_path):
    result = vidssl(
        "extract",
        checkpoint,
        sprites / "val",
        tmp_path / "f.safetensors",
        "--patches",
        "--patch-stride",
        9,
        *FAST,
    )
    assert "stride=9: must be from 1 to 8, the patch" in one_line(*result)
    assert list(tmp_path.iterdir()) == []


def test_pca(vidssl, checkpoint, sprites, tmp_path):
    video = next((sprites / "val").rglob("*.mp4"))
    code, out, _ = vidssl(
        "pca", checkpoint, video, tmp_path / "a.mp4", "--stride", 4, "--mode", "window", "--device", "cpu"
    )
    assert code == 0
    assert "12 frames, layer 1, stride 4, window; variance in red, green, blue: " in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "a.mp4", "a.png"]
    result = vidssl("pca", checkpoint, tmp_path / "a.json", tmp_path / "b.mp4", "--device", "cpu")
    assert "a.json" in one_line(*result)
