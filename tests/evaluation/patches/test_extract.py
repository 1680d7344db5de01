"""Patch features in files: of whole frames, one video at a time, and what is there is not replaced by less."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import vidssl
from vidssl import files
from vidssl.data.decode.open import open_video
from vidssl.data.encode import write_video
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions
from vidssl.evaluation.patches.extract import extract_patches
from vidssl.models.export import save_encoder
from vidssl.models.load import load_encoder
from vidssl.models.patches import PatchFeatures

OPTIONS = EvalOptions(frames=5, seconds=1.0, size=24, workers=0, device="cpu")


@pytest.fixture(scope="module")
def encoder(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject") / "encoder"
    return save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False), folder)


@pytest.fixture
def data(tmp_path) -> Path:
    """Two videos of other sizes, one of them odd and shorter than what is asked for, and one that is none."""
    folder, rng = tmp_path / "data", np.random.default_rng(0)
    for name, shape in {"a": (12, 24, 40, 3), "c": (3, 72, 24, 3)}.items():
        write_video(folder / f"{name}.mp4", rng.integers(0, 255, shape, dtype=np.uint8), 8)
    (folder / "b.mp4").write_bytes(b"was never a video")
    return folder


def test_features_are_those_of_whole_frames(encoder, data, tmp_path):
    output = tmp_path / "f.safetensors"
    record = extract_patches(encoder, data, output, layer=0, stride=4, mode="window", options=OPTIONS)
    tensors = load_file(output)
    assert json.loads(output.with_suffix(".json").read_text()) == record
    assert [video["path"] for video in record["videos"]] == ["a.mp4", "b.mp4", "c.mp4"]
    assert [video["tensor"] for video in record["videos"]] == ["0", None, "2"]
    [failed] = record["data"]["failed"]
    assert failed["path"].endswith("b.mp4")
    assert {key: record["sampling"][key] for key in ("frames", "size", "resize", "clips_per_video")} == {
        "frames": 5, "size": 24, "resize": "short side", "clips_per_video": 1,
    }  # fmt: skip
    assert record["patches"]["bytes"] == sum(tensor.nbytes for tensor in tensors.values())
    assert (record["patches"]["stride"], record["patches"]["layer"], record["patches"]["mode"]) == (
        4,
        0,
        "window",
    )
    assert tensors["0"].shape == (5, 64, 6, 10)
    assert tensors["2"].shape == (3, 64, 18, 6)  # each of its frames once; 72 x 24 pixels
    assert record["videos"][2]["times"] == pytest.approx([0, 1 / 8, 2 / 8])
    with open_video(data / "a.mp4") as video:
        indices = (np.array(record["videos"][0]["times"]) * 8).round().astype(int)
        frames = torch.from_numpy(video.frames(indices)).permute(0, 3, 1, 2).float() / 255
    found = PatchFeatures(load_encoder(encoder), layer=0, stride=4, mode="window")
    torch.testing.assert_close(tensors["0"], found(frames))
    half = extract_patches(
        encoder,
        data,
        tmp_path / "h.safetensors",
        layer=0,
        stride=4,
        mode="window",
        half=True,
        options=OPTIONS,
    )
    assert half["patches"]["bytes"] * 2 == record["patches"]["bytes"]
    torch.testing.assert_close(
        load_file(tmp_path / "h.safetensors")["0"].float(), tensors["0"], atol=1e-2, rtol=1e-3
    )


def test_features_that_do_not_fit_are_named(encoder, data, tmp_path, monkeypatch):
    class Large(PatchFeatures):
        def __call__(self, frames):
            return (
                1e5 * torch.ones(len(frames), 2, 1, 1)
                if len(frames) == 5
                else torch.zeros(len(frames), 2, 1, 1)
            )

    monkeypatch.setattr("vidssl.evaluation.patches.extract.PatchFeatures", Large)
    record = extract_patches(encoder, data, tmp_path / "f.safetensors", half=True, options=OPTIONS)
    assert [video["tensor"] for video in record["videos"]] == [None, None, "2"]
    assert record["data"]["failed"][0]["reason"] == "patch features are not finite in float16"
    record = extract_patches(encoder, data, tmp_path / "g.safetensors", options=OPTIONS)
    assert [video["tensor"] for video in record["videos"]] == ["0", None, "2"]


def test_what_is_there_is_not_replaced_by_less(encoder, data, tmp_path):
    output = tmp_path / "f.safetensors"
    extract_patches(encoder, data, output, options=OPTIONS)
    before = output.read_bytes(), output.with_suffix(".json").read_bytes()
    extract_patches(encoder, data, output, options=OPTIONS)  # the same again
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    shutil.copy(data / "b.mp4", data / "c.mp4")
    with pytest.raises(VidsslError, match=r"left as it is: it has features of 1 video .* c\.mp4;"):
        extract_patches(encoder, data, output, options=OPTIONS)
    (data / "list.csv").write_text("a.mp4\nc.mp4\n")
    (data / "c.mp4").unlink()
    with pytest.raises(VidsslError, match="left as it is: it has features of 1 video"):
        extract_patches(encoder, data / "list.csv", output, options=replace(OPTIONS, missing="skip"))
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "f.json", "f.safetensors"]


def test_names_and_features_are_replaced_together(encoder, data, tmp_path, monkeypatch):
    output = tmp_path / "f.safetensors"
    extract_patches(encoder, data, output, options=OPTIONS)
    before = output.read_bytes(), output.with_suffix(".json").read_bytes()

    def full(file, text):
        raise VidsslError(f"{file}: cannot be written: No space left on device")

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(VidsslError, match="No space left"):
        extract_patches(encoder, data, output, stride=4, options=OPTIONS)
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    with pytest.raises(VidsslError, match=r"the ending \.safetensors"):
        extract_patches(encoder, data, tmp_path / "f.json", options=OPTIONS)
