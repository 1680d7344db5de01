"""Features in files: what is there is not replaced by less."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import vidssl
from vidssl import files
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, extract
from vidssl.models.export import save_encoder

OPTIONS = EvalOptions(clips=1, frames=4, seconds=1.0, size=32, workers=0, device="cpu")


@pytest.fixture(scope="module")
def encoder(tiny_clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("subject") / "encoder"
    return save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False), folder)


def test_features_are_not_replaced_where_their_videos_can_no_longer_be_read(encoder, sprites, tmp_path):
    data, output = tmp_path / "data", tmp_path / "features.safetensors"
    shutil.copytree(sprites / "val" / "growing", data / "growing")
    first, second, third = sorted((data / "growing").iterdir())
    first.write_bytes(b"was never a video")
    extract(encoder, data, output, options=OPTIONS)
    before = output.read_bytes(), output.with_suffix(".json").read_bytes()
    assert len(json.loads(before[1])["data"]["failed"]) == 1
    extract(encoder, data, output, options=OPTIONS)  # the same again
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    second.write_bytes(b"is one no more")
    with pytest.raises(
        VidsslError, match=f"left as it is: it has features of 1 video .* growing/{second.name};"
    ):
        extract(encoder, data, output, options=OPTIONS)
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    (data / "list.csv").write_text("".join(f"growing/{video.name}\n" for video in (first, second, third)))
    third.unlink()
    with pytest.raises(VidsslError, match="left as it is: it has features of 2 videos"):
        extract(
            encoder, data / "list.csv", output, options=EvalOptions(**{**vars(OPTIONS), "missing": "skip"})
        )
    extract(encoder, data, tmp_path / "other.safetensors", options=OPTIONS)


def test_names_and_features_are_replaced_together(encoder, sprites, tmp_path, monkeypatch):
    output = tmp_path / "features.safetensors"
    extract(encoder, sprites / "val" / "growing", output, options=OPTIONS)
    before = output.read_bytes(), output.with_suffix(".json").read_bytes()
    whole_file = files.whole_file

    def full(file):
        if ".json" in str(file) and ".partial" in str(file):
            raise VidsslError(f"{file}: cannot be written: No space left on device")
        return whole_file(file)

    monkeypatch.setattr(files, "whole_file", full)
    with pytest.raises(VidsslError, match="No space left"):
        extract(encoder, sprites / "val" / "moving_left", output, options=OPTIONS)
    assert (output.read_bytes(), output.with_suffix(".json").read_bytes()) == before
    assert len(list(tmp_path.iterdir())) == 2


def test_features_do_not_go_where_the_names_go(encoder, sprites, tmp_path):
    with pytest.raises(VidsslError, match=r"the features need the ending \.safetensors"):
        extract(encoder, sprites / "val", tmp_path / "features.json", options=OPTIONS)


def test_clips_may_be_written_apart(encoder, sprites, tmp_path):
    options = EvalOptions(**{**vars(OPTIONS), "clips": 2, "seconds": 0.5})
    for name, more in (("mean", {}), ("apart", {"apart": True}), ("unit", {"pooling": "unit"})):
        extract(
            encoder, sprites / "val" / "growing", tmp_path / f"{name}.safetensors", options=options, **more
        )
    mean, apart, unit = (load_file(tmp_path / f"{name}.safetensors") for name in ("mean", "apart", "unit"))
    assert apart["features"].shape[:2] == apart["shown"].shape == (3, 2) and bool(apart["shown"].all())
    torch.testing.assert_close(apart["features"].mean(1), mean["features"])
    assert not torch.equal(unit["features"], mean["features"])
    with pytest.raises(VidsslError, match="pooling='max': unknown"):
        extract(encoder, sprites / "val", tmp_path / "x.safetensors", pooling="max", options=options)
