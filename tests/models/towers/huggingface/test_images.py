"""Image models of transformers against transformers itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

import vidssl
from tests.models.towers.huggingface.tiny import SMALL, full, noise, tiny
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder

MODELS = [
    "CLIPModel",
    "CLIPVisionModelWithProjection",
    "SiglipModel",
    "SiglipVisionModel",
    "Siglip2Model",
    "Siglip2VisionModel",
    "Dinov2Model",
    "Dinov2ForImageClassification",
    "Dinov2WithRegistersModel",
    "DINOv3ViTModel",
    "DINOv3ConvNextModel",
]


@torch.no_grad()
def theirs(model: Any, name: str, images: Tensor) -> Tensor:
    """(N, D) as transformers computes it."""
    inputs: dict[str, Any] = {"pixel_values": images}
    if name.startswith("Siglip2"):
        from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

        patch = getattr(model.config, "vision_config", model.config).patch_size
        patches = torch.stack([convert_image_to_patches(image, patch) for image in images])
        h, w = (side // patch for side in images.shape[2:])
        mask = torch.ones(patches.shape[:2], dtype=torch.int32)
        inputs = {
            "pixel_values": patches,
            "pixel_attention_mask": mask,
            "spatial_shapes": torch.tensor([[h, w]] * len(images)),
        }
    elif name.startswith(("CLIP", "Siglip")):
        inputs["interpolate_pos_encoding"] = True
    if hasattr(model, "get_image_features"):
        output = model.get_image_features(**inputs)
    else:
        output = getattr(model, "dinov2", model)(**inputs)
    found: Tensor = output.image_embeds if "image_embeds" in output else output.pooler_output
    return found


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    model = tiny(name, tmp_path / "theirs")
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}/theirs")
    side = encoder.image_size
    for height, width in (
        (side, side),
        (2 * side, side),
    ):  # positions are interpolated as transformers does it
        clips = noise(1, 3, 2, height, width)
        with torch.no_grad():
            features = encoder(clips, patches=True)
        expected = theirs(model, name, rearrange(clips, "b c t h w -> (b t) c h w"))
        torch.testing.assert_close(features.frames[0], expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(features.clip[0], expected.mean(dim=0), atol=1e-5, rtol=0)
    patch = encoder.map_multiple
    assert features.patches is not None
    assert features.patches.shape == (1, 2, 2 * side // patch, side // patch, encoder.width)
    *inner, last = encoder.maps(clips)
    assert torch.equal(last, features.patches)
    assert len(inner) == (3 if "ConvNext" in name else 1)
    assert (encoder.embed_dim, encoder.sees, encoder.image_size) == (expected.shape[1], "frame", side)
    again = vidssl.load(save_encoder(encoder, tmp_path / "ours"))
    assert torch.equal(again(clips).clip, encoder(clips).clip)


def test_patches_are_where_they_are_in_the_image(tmp_path: Path) -> None:
    """A DINOv3 without attention across patches: what changes in a corner changes the features of that corner alone."""
    model = tiny("Dinov2Model", tmp_path)
    for layer in model.encoder.layer:
        torch.nn.init.zeros_(layer.layer_scale1.lambda1)  # of attention
    model.save_pretrained(tmp_path)
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    clips = noise(1, 3, 1, 24, 16)
    changed = clips.clone()
    changed[..., 16:, :8] += 1  # the last row, the first column
    with torch.no_grad():
        before, after = (encoder(x, patches=True).patches for x in (clips, changed))
    differs = (before - after).abs().amax(dim=-1)[0, 0] > 0
    assert differs.tolist() == [[False, False], [False, False], [True, False]]


@pytest.mark.parametrize("temporal", ["head", "convolutions"])
def test_what_is_learned_of_time_starts_as_the_mean_and_is_kept(temporal: str, tmp_path: Path) -> None:
    tiny("DINOv3ViTModel", tmp_path / "theirs")
    name = f"transformers/{tmp_path}/theirs"
    encoder = vidssl.create_model(name, temporal=temporal).eval()
    plain = vidssl.load_encoder(name)
    clips = noise(1, 3, 4, 16, 16)
    torch.testing.assert_close(encoder(clips).clip, plain(clips).clip)
    head: Any = encoder.temporal_head
    encoder(clips).clip.sum().backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter))
    folder = save_encoder(encoder, tmp_path / "ours")
    again = vidssl.create_model(name, str(folder), temporal=temporal).eval()
    assert torch.equal(again(clips).clip, encoder(clips).clip)
    assert not torch.allclose(again(clips).clip, plain(clips).clip)
    with pytest.raises(VidsslError, match=f"was trained with temporal='{temporal}'"):
        vidssl.create_model(name, str(folder), temporal="none")


@pytest.mark.parametrize("temporal", ["head", "convolutions"])
@pytest.mark.parametrize(
    "name",
    [
        "CLIPVisionModelWithProjection",
        "Siglip2VisionModel",
        "Dinov2WithRegistersModel",
        "DINOv3ConvNextModel",
    ],
)
def test_a_head_is_told_what_stands_where(name: str, temporal: str, tmp_path: Path) -> None:
    tiny(name, tmp_path / "theirs")
    place = f"transformers/{tmp_path}/theirs"
    image = vidssl.load_encoder(place)
    clips = noise(2, 3, 4, image.image_size, image.image_size)
    for layer in (None, 0):
        options: dict[str, Any] = {"head_grid": 2, "head_layer": layer, "head_width": 8}
        encoder = vidssl.create_model(place, temporal=temporal, **options).eval()
        with torch.no_grad():
            torch.testing.assert_close(encoder(clips).clip, image(clips).clip, atol=1e-5, rtol=0)
            rows = image.frame_rows(clips, 2, layer)
            grid = [*image.maps(clips)][-1 if layer is None else layer]
        cells = torch.nn.functional.adaptive_avg_pool2d(rearrange(grid, "b t h w c -> (b t) c h w"), 2)
        cells = rearrange(cells, "(b t) c y x -> b t (y x c)", b=2)
        torch.testing.assert_close(rows, torch.cat([image(clips).frames, cells], dim=2), atol=1e-5, rtol=0)
        encoder(clips).clip.sum().backward()
        head: Any = encoder.temporal_head
        assert any(p.grad is not None and bool(p.grad.any()) for p in head.parameters())
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(torch.randn_like(parameter))
            whole = encoder(clips).clip
            torch.testing.assert_close(encoder(rows).clip, whole, atol=1e-5, rtol=1e-5)
            rows[..., image.embed_dim :] += torch.randn_like(rows[..., image.embed_dim :])
            assert not torch.allclose(encoder(rows).clip, whole, atol=1e-3)  # the cells are read
        again = vidssl.create_model(
            place, str(save_encoder(encoder, tmp_path / f"{layer}")), temporal=temporal, **options
        )
        assert torch.equal(again.eval()(clips).clip, whole)


def test_mistakes_are_named(tmp_path: Path) -> None:
    tiny("CLIPModel", tmp_path / "clip")
    tiny("CLIPVisionModel", tmp_path / "bare", family="CLIPVision")
    name = f"transformers/{tmp_path}/clip"
    with pytest.raises(VidsslError, match="temporal='divided' cannot be put into a model of transformers"):
        vidssl.create_model(name)
    with pytest.raises(VidsslError, match=r"token_drop: 0\.5: has no effect"):
        vidssl.create_model(name, temporal="head", token_drop=0.5)
    with pytest.raises(VidsslError, match="clips of 12x16 pixels: both sides must be multiples of 8"):
        vidssl.load_encoder(name)(noise(1, 3, 1, 12, 16))
    with pytest.raises(VidsslError, match=r"1 missing \(visual_projection.weight\)"):
        vidssl.load_encoder(f"transformers/{tmp_path}/bare")
    tiny("SiglipModel", tmp_path / "siglip")
    with pytest.raises(VidsslError, match=r"weights do not fit|another model"):
        vidssl.create_model(name, str(tmp_path / "siglip"), temporal="none")


def test_models_of_timm_in_a_folder_of_transformers(tmp_path: Path) -> None:
    from transformers import TimmWrapperConfig, TimmWrapperModel

    torch.manual_seed(0)
    arguments: dict[str, Any] = {"img_size": 96}
    model = TimmWrapperModel(
        TimmWrapperConfig(architecture="test_vit", num_labels=0, model_args=arguments)
    ).eval()
    model.save_pretrained(tmp_path)
    encoder = vidssl.create_model(f"transformers/{tmp_path}", temporal="none").eval()
    clips = noise(1, 3, 2, 96, 96)
    with torch.no_grad():
        expected = model(rearrange(clips, "b c t h w -> (b t) c h w")).pooler_output
        torch.testing.assert_close(encoder(clips).frames[0], expected, atol=1e-5, rtol=0)
    assert (encoder.spec["name"], encoder.image_size) == ("timm/test_vit", 96)
    assert (
        vidssl.create_model(f"transformers/{tmp_path}").spec["temporal"] == "divided"
    )  # timm's have all modes
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "test_vit"}))  # as timm keeps it
    with pytest.raises(VidsslError, match="a model of timm; name it timm/test_vit"):
        vidssl.create_model(f"transformers/{tmp_path}", temporal="none")


def test_the_size_that_a_processor_shows(tmp_path: Path) -> None:
    """DINOv2 has positions for another size than the one that it is shown."""
    tiny("Dinov2Model", tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "crop_size": {"height": 24, "width": 24},
                "image_mean": [0.1, 0.2, 0.3],
                "image_std": [0.4, 0.5, 0.6],
            }
        )
    )
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    assert (encoder.image_size, encoder.mean, encoder.std) == (24, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert vidssl.create_model(f"transformers/{tmp_path}", temporal="none", image_size=32).image_size == 32


@pytest.mark.parametrize("name", ["DINOv3ViTModel", "Dinov2Model", "CLIPModel"])
def test_a_network_in_training_draws_nothing(name: str, tmp_path: Path) -> None:
    """DINOv3 of transformers scales its rotary positions at random in training, and configs may ask for dropout."""
    half = {"drop_path_rate": 0.5} if name != "CLIPModel" else {}
    if name == "CLIPModel":
        half = {"vision_config": {**SMALL, "attention_dropout": 0.5, "projection_dim": 16}}
    tiny(name, tmp_path, **half)
    encoder = vidssl.create_model(f"transformers/{tmp_path}", temporal="none")
    assert encoder.training
    clips = noise(1, 3, 2, 16, 16)
    assert torch.equal(encoder(clips).clip, encoder(clips).clip)
    torch.testing.assert_close(encoder(clips).clip, encoder.eval()(clips).clip)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name != "Dinov2ForImageClassification"])
def test_features_of_full_size_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Sizes that the configs have by themselves, mostly the published base models, one in memory at a time."""
    model = full(name, tmp_path)
    encoder = vidssl.create_model(f"transformers/{tmp_path}", temporal="none", load_text=False).eval()
    clips = noise(1, 3, 2, encoder.image_size, encoder.image_size)
    expected = theirs(model, name, rearrange(clips, "b c t h w -> (b t) c h w"))
    with torch.no_grad():
        found = encoder(clips).frames[0]
    largest = float((found - expected).abs().max())
    print(
        f"{name}: {encoder.image_size} pixels, largest difference {largest:.1e}, features up to {float(expected.abs().max()):.2g}"
    )
    assert largest < 1e-5
