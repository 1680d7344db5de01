"""What becomes of image models in transformers, and what has no form there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor

import vidssl
from tests.models.towers.huggingface.tiny import tiny
from tests.models.towers.test_text import write_word_tokenizer
from tests.tiny_clip import TINY_CONFIG, tiny_config, write_tiny_clip
from vidssl.data.views.colour import normalize_
from vidssl.errors import VidsslError
from vidssl.exporting import export
from vidssl.exporting.places import without_places
from vidssl.models.export import save_encoder


def pixels(frames: int = 4, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def as_clip(encoder: vidssl.models.encoder.VideoEncoder, frames: np.ndarray) -> Tensor:
    clips = rearrange(torch.from_numpy(frames), "t h w c -> 1 c t h w").float().div(255)
    return normalize_(clips.contiguous(), encoder.mean, encoder.std)


@pytest.mark.parametrize(
    ("quick_gelu", "statistics"), [(False, {}), (True, {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]})]
)
def test_clip_as_transformers_users_load_it(quick_gelu: bool, statistics: dict, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoProcessor

    config = TINY_CONFIG | {"quick_gelu": quick_gelu}
    source = f"local-dir:{write_tiny_clip(tmp_path / 'clip', config, **statistics)}"
    record = export(source, tmp_path / "out", "transformers")
    assert "left_behind" not in record
    encoder = vidssl.load_encoder(source)
    assert encoder.text is not None
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    frames, names = pixels(), ["a person juggling", "Two DOGS, running!"]
    inputs = processor(
        text=names, images=[Image.fromarray(x) for x in frames], return_tensors="pt", padding=True
    )
    with torch.no_grad():
        output = model(**inputs)
        wanted = encoder(as_clip(encoder, frames)).frames[0]
    texts = encoder.text.encode(names)
    torch.testing.assert_close(output.image_embeds, torch.nn.functional.normalize(wanted), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.text_embeds, torch.nn.functional.normalize(texts), atol=1e-5, rtol=0)
    logits = output.image_embeds @ output.text_embeds.T / encoder.text.temperature
    torch.testing.assert_close(output.logits_per_image, logits, atol=1e-3, rtol=0)
    again = vidssl.load_encoder(tmp_path / "out")  # by vidssl's own reader of such folders
    assert (again.mean, again.std) == (encoder.mean, encoder.std)


def test_a_text_tower_that_does_not_fit_stays_behind_and_is_named(tmp_path: Path) -> None:
    config = tiny_config() | {"init_logit_bias": -10.0}
    folder = write_tiny_clip(tmp_path / "clip", config)
    record = export(f"local-dir:{folder}", tmp_path / "out", "transformers", frames=2)
    assert record["left_behind"] == "the text tower: CLIP of transformers has no place for logit_bias"
    assert record["check"]["text"] is None


@pytest.mark.parametrize(
    ("vision", "words"),
    [
        ({"pool_type": "avg"}, "vision_cfg.pool_type='avg'"),
        ({"ls_init_value": 0.1}, "vision_cfg.ls_init_value=0.1"),
        ({"no_ln_pre": True}, "vision_cfg.no_ln_pre=True"),
        ({"timm_model_name": "test_convnext"}, "vision_cfg.timm_model_name='test_convnext'"),
        ({"layers": [1, 1, 1, 1], "width": 8, "head_width": 16}, "layers"),
    ],
)
def test_what_clip_of_transformers_is_not(vision: dict, words: str, tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "clip", tiny_config(**vision))
    with pytest.raises(VidsslError, match="transformers has no such model") as error:
        export(f"local-dir:{folder}", tmp_path / "out", "transformers", frames=2)
    assert words in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["clip"]


def test_a_model_of_timm(tmp_path: Path) -> None:
    from transformers import AutoModel

    encoder = vidssl.create_model("timm/test_vit", temporal="head", image_size=64)
    source = save_encoder(encoder, tmp_path / "encoder")
    with pytest.raises(VidsslError, match="temporal='head'"):
        export(source, tmp_path / "out", "transformers")
    record = export(source, tmp_path / "out", "transformers", frames=2, alone=True)
    assert record["input"]["size"] == 64
    model = AutoModel.from_pretrained(tmp_path / "out").eval()
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model(images).pooler_output, encoder.eval().visual(images))
    with pytest.raises(VidsslError, match="size=32: must be that of the model, 64"):
        export(source, tmp_path / "other", "transformers", size=32, alone=True)


@pytest.mark.parametrize(
    "name", ["VideoMAEModel", "Dinov2Model", "CLIPVisionModelWithProjection", "CLIPModel", "SiglipModel"]
)
def test_models_of_transformers_go_back(name: str, tmp_path: Path) -> None:
    model = tiny(name, tmp_path / "model")
    if name in ("CLIPModel", "SiglipModel"):
        write_word_tokenizer(tmp_path / "model")
    record = export(tmp_path / "model", tmp_path / "out", "transformers")
    assert (record["check"]["text"] is None) == (name not in ("CLIPModel", "SiglipModel"))
    again = type(model).from_pretrained(tmp_path / "out").state_dict()
    assert again.keys() == model.state_dict().keys()
    for key, value in model.state_dict().items():
        assert torch.equal(again[key], value)


@pytest.mark.parametrize("name", ["Dinov2Model", "VideoMAEModel"])
def test_models_of_transformers_as_programs(name: str, tmp_path: Path) -> None:
    tiny(name, tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out", "torch-export")
    encoder = vidssl.load_encoder(tmp_path / "model")
    clips = torch.randn(5, 3, encoder.spec.get("max_frames", 8), 16, 16)
    clip, _ = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(clips)
    with torch.no_grad():
        wanted = encoder(clips).clip
    torch.testing.assert_close(clip, wanted, atol=1e-5 * wanted.abs().max().item(), rtol=0)


def test_where_a_tokenizer_came_from_is_not_told(tmp_path: Path) -> None:
    tiny("CLIPModel", tmp_path / "model")
    write_word_tokenizer(tmp_path / "model")
    export(tmp_path / "model", tmp_path / "out", frames=2)
    for file in (tmp_path / "out").rglob("*"):
        assert file.is_dir() or str(tmp_path).encode() not in file.read_bytes(), file
    shutil.rmtree(tmp_path / "model")
    text = vidssl.load_encoder(tmp_path / "out").text
    assert text is not None
    assert text.encode(["juggling"]).shape == (1, 16)


def test_video_networks_have_no_form_there(tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match="is a video network, and transformers has no such model"):
        export("conv3d/small", tmp_path / "out", "transformers")


def test_a_file_of_weights_wants_a_name(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "checkpoint.pth")
    with pytest.raises(VidsslError, match=r"is a file; name the model .* transformers/videomae-base:/"):
        export(tmp_path / "checkpoint.pth", tmp_path / "out")


def test_paths_are_cut() -> None:
    given = {
        "a": ["local-dir:/home/me/clip", "transformers//home/me/mae"],
        "b": "/x/y/videos",
        "c": "x/y",
        "d": 3,
    }
    cut = {"a": ["local-dir:clip", "transformers/mae"], "b": "videos", "c": "x/y", "d": 3}
    assert without_places(given) == cut
