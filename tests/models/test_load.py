"""One path to an encoder: an export, a checkpoint, a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidssl
from vidssl.errors import VidsslError
from vidssl.files import seal
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.models.load import load, load_text_tower
from vidssl.models.towers.text import TextEncoder


@pytest.fixture
def encoder(tiny_clip: Path) -> VideoEncoder:
    return vidssl.create_model(f"local-dir:{tiny_clip}")


def clips() -> torch.Tensor:
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_load_finds_the_encoder_of_a_checkpoint_and_of_a_run(encoder: VideoEncoder, tmp_path: Path) -> None:
    checkpoint = tmp_path / "run" / "checkpoints" / "step_00000100"
    save_encoder(encoder, checkpoint / "encoder")
    seal(checkpoint)
    for path in (tmp_path / "run", checkpoint, checkpoint / "encoder", str(checkpoint)):
        assert torch.equal(load(path)(clips()).clip, encoder.eval()(clips()).clip)


def test_load_says_what_it_expected(encoder: VideoEncoder, tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match="no such folder"):
        load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(VidsslError, match="not a folder"):
        load(tmp_path / "file")
    with pytest.raises(VidsslError, match=r"holds no encoder.*checkpoints/"):
        load(tmp_path)
    (tmp_path / "latest.json").write_text("{}")
    with pytest.raises(VidsslError, match="holds none any more"):
        load(tmp_path)


def test_a_damaged_encoder_of_a_checkpoint_is_not_loaded(encoder: VideoEncoder, tmp_path: Path) -> None:
    folders = [tmp_path / "run" / "checkpoints" / f"step_0000000{step}" for step in (1, 2)]
    for folder in folders:
        save_encoder(encoder, folder / "encoder")
        (folder / "rest").touch()
        seal(folder)
    (folders[1] / "rest").write_text("not read here")
    load(tmp_path / "run")
    file = folders[1] / "encoder" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-100] ^= 1
    file.write_bytes(content)
    for path in (tmp_path / "run", folders[1], folders[1] / "encoder"):
        with pytest.raises(
            VidsslError, match=rf"damaged: the content of encoder/model.*whole: .*{folders[0].name}"
        ):
            load(path)
    (folders[0] / "checksums.json").unlink()
    with pytest.raises(VidsslError, match=r"damaged: checksums\.json: no such file"):
        load(folders[0])


def test_towers_are_loaded_from_whatever_names_them(tmp_path: Path, tiny_clip: Path) -> None:
    towers = [load_text_tower(tiny_clip), load_text_tower(f"local-dir:{tiny_clip}")]
    exported = save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}"), tmp_path / "exported")
    towers.append(load_text_tower(exported))
    assert all(isinstance(tower, TextEncoder) for tower in towers)
    assert len({tower.fingerprint for tower in towers}) == 1
    bare = save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}"), tmp_path / "bare", text=False)
    with pytest.raises(VidsslError, match="has no text tower"):
        load_text_tower(bare)
    with pytest.raises(VidsslError, match="ViT-B-17"):
        load_text_tower("ViT-B-17")
