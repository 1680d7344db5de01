"""Exported encoders: written whole, read back identical, refused when they do not fit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidssl
from vidssl import files
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import read_encoder, save_encoder
from vidssl.models.load import load


@pytest.fixture
def encoder(tiny_clip: Path) -> VideoEncoder:
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}")
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return encoder


def clips() -> torch.Tensor:
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("text", [True, False])
def test_what_is_read_back_is_identical(text: bool, encoder: VideoEncoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "deep" / "export", text=text)
    files = {"config.json", "model.safetensors"} | ({"text.safetensors"} if text else set())
    assert {path.name for path in folder.iterdir()} == files
    assert [path.name for path in folder.parent.iterdir()] == ["export"]
    generator_state = torch.get_rng_state()
    loaded = vidssl.load(folder)
    assert torch.equal(torch.get_rng_state(), generator_state)
    assert not loaded.training
    for own, other in zip(loaded(clips(), patches=True), encoder.eval()(clips(), patches=True), strict=True):
        assert torch.equal(own, other)
    assert (loaded.mean, loaded.std, loaded.spec) == (encoder.mean, encoder.std, encoder.spec)
    if text:
        assert encoder.text is not None
        assert loaded.text is not None
        assert torch.equal(loaded.text.encode(["juggling"]), encoder.text.encode(["juggling"]))
        assert loaded.text.fingerprint == encoder.text.fingerprint
        assert loaded.text.logit_scale == encoder.text.logit_scale
    else:
        assert loaded.text is None


def test_tied_weights_are_written(encoder: VideoEncoder, tmp_path: Path) -> None:
    temporal: Any = encoder.temporal
    temporal[1].out.weight = temporal[0].out.weight
    temporal[0].norm.weight = torch.nn.Parameter(torch.randn(128)[::2])  # not contiguous
    loaded = read_encoder(save_encoder(encoder, tmp_path / "export"))
    for key, value in encoder.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value)


def test_an_export_replaces_an_export_and_nothing_else(encoder: VideoEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    save_encoder(encoder, folder)  # an empty folder may be filled
    with torch.no_grad():
        next(encoder.parameters()).add_(1.0)
    save_encoder(encoder, folder)
    assert torch.equal(next(read_encoder(folder).parameters()), next(encoder.parameters()))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(VidsslError, match="will not be overwritten"):
        save_encoder(encoder, precious)
    with pytest.raises(VidsslError, match="will not be overwritten"):
        save_encoder(encoder, precious / "thesis.txt")
    assert (precious / "thesis.txt").read_text() == "years of work"


def test_a_failed_export_leaves_the_old_one(
    encoder: VideoEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_encoder(encoder, tmp_path / "export")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full_disk(*_: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(files, "_flush", full_disk)
    with pytest.raises(VidsslError, match="No space"):
        save_encoder(encoder, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


def change_tensors(file: Path, **changes: torch.Tensor | None) -> None:
    tensors = load_file(file)
    for key, value in changes.items():
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("model.safetensors", {"time_embedding": None}, "1 missing (time_embedding)"),
        ("model.safetensors", {"surplus": torch.zeros(1)}, "1 unexpected (surplus)"),
        ("model.safetensors", {"visual.proj": torch.zeros(2, 2)}, "visual.proj (2, 2) instead of (64, 32)"),
        ("text.safetensors", {"text_projection": None}, "1 missing (text_projection)"),
    ],
)
def test_weights_that_do_not_fit(
    file: str, changes: dict[str, Any], words: str, encoder: VideoEncoder, tmp_path: Path
) -> None:
    folder = save_encoder(encoder, tmp_path / "export")
    change_tensors(folder / file, **changes)
    with pytest.raises(VidsslError) as error:
        load(folder)
    assert words in str(error.value)
    assert file in str(error.value)


def test_weights_of_another_architecture(encoder: VideoEncoder, tiny_clip: Path, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "export")
    image_only = vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none", load_text=False)
    other = save_encoder(image_only, tmp_path / "other")
    shutil.copy(other / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(VidsslError, match=r"17 missing \(temporal\.0.*more"):
        load(folder)
    shutil.copy(other / "config.json", folder / "config.json")
    load(folder)


@pytest.mark.parametrize(
    "damage", ["no model", "no text", "torn model", "not json", "list", "format", "version", "spec"]
)
def test_damaged_exports(damage: str, encoder: VideoEncoder, tmp_path: Path) -> None:
    folder = save_encoder(encoder, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    if damage.startswith("no "):
        name = {"no model": "model.safetensors", "no text": "text.safetensors"}.get(damage, "config.json")
        (folder / name).unlink() if damage != "not json" else (folder / name).write_text("{")
    elif damage == "torn model":
        torn = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(torn[: len(torn) // 2])
    elif damage == "list":
        (folder / "config.json").write_text("[]")
    else:
        key = {"format": "format", "version": "version", "spec": "spec"}.get(damage, "format")
        config[key] = {"family": "something"} if damage == "spec" else 99
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(VidsslError) as error:
        load(folder)
    assert "\n" not in str(error.value)
