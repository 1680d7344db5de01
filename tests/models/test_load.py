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
from vidssl.models.load import load, load_encoder, load_text_tower
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


def test_an_encoder_is_loaded_from_whatever_names_it(
    encoder: VideoEncoder, tiny_name: str, tiny_clip: Path, tmp_path: Path
) -> None:
    file = tiny_clip / "open_clip_model.safetensors"
    image = vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none").eval()
    named = (tiny_clip, str(tiny_clip), f"local-dir:{tiny_clip}", f"{tiny_name}:{file}")
    for source in (*named, f"{tiny_name}:{tiny_clip}"):
        found = vidssl.load_encoder(source)
        assert not found.training
        assert found.text is not None
        assert torch.equal(found(clips()).clip, image(clips()).clip)
    run = tmp_path / "run"
    save_encoder(encoder, run / "checkpoints" / "step_00000001" / "encoder")
    seal(run / "checkpoints" / "step_00000001")
    for ours in (
        run,
        f"local-dir:{run}",
        run / "checkpoints" / "step_00000001",
        run / "checkpoints" / "step_00000001" / "encoder",
    ):
        assert torch.equal(load_encoder(ours)(clips()).clip, encoder.eval()(clips()).clip)
    state = torch.get_rng_state()
    first, second = (load_encoder(tiny_name) for _ in range(2))
    assert torch.equal(first(clips()).clip, second(clips()).clip)  # drawn, but always the same
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "source", ["runs/nowhere", "nowhere", "ViT-B-23", "ViT-B-23:openai", "x.pt", "tim/x"]
)
def test_a_source_that_is_nowhere_is_one_line(source: str) -> None:
    with pytest.raises(VidsslError, match="no such folder, and no model of that name") as error:
        load_encoder(source)
    message = str(error.value)
    assert message.startswith(f"{source}: ")
    assert (
        "NAME:TAG of open_clip, local-dir:/path, hf-hub:org/repo, timm/NAME, transformers/FOLDER" in message
    )
    assert ("did you mean 'ViT-B-32'" in message) == source.startswith("ViT")


def test_a_second_stage_starts_from_a_first(encoder: VideoEncoder, tiny_name: str, tmp_path: Path) -> None:
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    run = tmp_path / "run"
    export = save_encoder(encoder, run / "checkpoints" / "step_00000001" / "encoder")
    seal(export.parent)
    for pretrained in (run, export.parent, export):
        second = vidssl.create_model(tiny_name, str(pretrained))
        assert second.spec["pretrained"] == str(pretrained)
        for key, value in encoder.state_dict().items():
            assert torch.equal(second.state_dict()[key], value)
        assert second.text is not None
        assert encoder.text is not None
        assert second.text.fingerprint == encoder.text.fingerprint
        assert second.text.temperature == pytest.approx(encoder.text.temperature, rel=1e-12)
    larger = vidssl.create_model(tiny_name, str(run), image_size=48)
    assert larger.visual.positional_embedding.shape == (37, 64)
    refused = {
        "was trained with temporal='divided'": {"temporal": "none"},
        "was trained with cls_mode='per_frame', not 'shared'": {"cls_mode": "shared"},
        "time_embedding (8, 64) instead of (4, 64)); max_frames has": {"max_frames": 4},
    }
    for words, options in refused.items():
        with pytest.raises(VidsslError) as error:
            vidssl.create_model(tiny_name, str(run), **options)
        assert words in str(error.value)
    with pytest.raises(VidsslError, match="another architecture than ViT-tiny-quickgelu: quick_gelu False"):
        vidssl.create_model(f"{tiny_name}-quickgelu", str(run))
    with pytest.raises(VidsslError, match=r"text\..*load_text=False"):
        vidssl.create_model(tiny_name, str(save_encoder(encoder, tmp_path / "bare", text=False)))


def test_attention_over_time_starts_as_copy_of_the_image_model_it_is_given(
    tiny_name: str, tiny_clip: Path, tmp_path: Path
) -> None:
    image = save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none"), tmp_path / "image")
    of_export, of_folder = (vidssl.create_model(tiny_name, str(path)) for path in (image, tiny_clip))
    for key, value in of_folder.state_dict().items():
        assert torch.equal(of_export.state_dict()[key], value)
