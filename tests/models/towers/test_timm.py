"""Image models of timm against timm itself."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from safetensors.torch import save_file
from torch import Tensor

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder

NAMES = ("test_vit", "test_vit2", "test_vit3", "test_convnext", "test_resnet", "test_efficientnet")


def weights_of(name: str, folder: Path, **options: Any) -> tuple[torch.nn.Module, Path]:
    """A model of timm with its classifier, and the file that timm would save of it."""
    import timm

    torch.manual_seed(1)
    model = timm.create_model(name, **options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_file(model.state_dict(), folder / "weights.safetensors")
    return model, folder / "weights.safetensors"


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", NAMES)
def test_features_are_those_that_timm_classifies(name: str, tmp_path: Path) -> None:
    model, file = weights_of(name, tmp_path)
    encoder = vidssl.load_encoder(f"timm/{name}:{file}")
    side = encoder.image_size
    clips = noise(1, 3, 2, side, side)
    with torch.no_grad():
        images = rearrange(clips, "b c t h w -> (b t) c h w")
        expected = model.forward_head(model.forward_features(images), pre_logits=True)  # type: ignore[operator]
        features = encoder(clips)
    torch.testing.assert_close(features.frames[0], expected, atol=1e-5, rtol=0)
    assert encoder.embed_dim == expected.shape[1]
    config: Any = model.pretrained_cfg
    assert (encoder.mean, encoder.std) == (tuple(config["mean"]), tuple(config["std"]))
    assert encoder.text is None


def test_an_encoder_is_saved_and_starts_a_new_run(tmp_path: Path) -> None:
    _, file = weights_of("test_vit2", tmp_path)
    encoder = vidssl.create_model("timm/test_vit2", str(file), temporal="joint", image_size=64).eval()
    assert encoder.temporal is not None
    torch.nn.init.normal_(encoder.temporal[0].fc.weight)  # type: ignore[union-attr, index, arg-type]
    clips = noise(1, 3, 3, 64, 64)
    folder = save_encoder(encoder, tmp_path / "saved")
    assert torch.equal(vidssl.load(folder)(clips).clip, encoder(clips).clip)
    again = vidssl.create_model("timm/test_vit2", str(folder), temporal="joint", image_size=64).eval()
    assert torch.equal(again(clips).clip, encoder(clips).clip)
    with pytest.raises(VidsslError, match="take temporal='joint'"):
        vidssl.create_model("timm/test_vit2", str(folder), temporal="divided", image_size=64)
    with pytest.raises(VidsslError, match="another model"):
        vidssl.create_model("timm/test_vit", str(folder), temporal="none")


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("timm/test_vitt", {}, "no such model; did you mean 'test_vit"),
        ("timm/test_vit.nothing", {}, "no such model"),
        ("timm/test_resnet", {"temporal": "joint"}, "a ResNet"),
        ("timm/test_resnet", {"temporal": "none", "token_drop": 0.5}, "token_drop: 0.5: has no effect"),
    ],
)
def test_mistakes_are_named(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(name, **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_another_model_or_size_are_refused(tmp_path: Path) -> None:
    _, file = weights_of("test_vit", tmp_path, img_size=64)
    with pytest.raises(VidsslError, match="image_size= interpolates"):
        vidssl.create_model("timm/test_vit", str(file))
    assert vidssl.create_model("timm/test_vit", str(file), image_size=160).image_size == 160
    with pytest.raises(VidsslError, match="weights do not fit"):
        vidssl.create_model("timm/test_convnext", str(file), temporal="none")


def test_the_teacher_of_a_dino_checkpoint(tmp_path: Path) -> None:
    model, _ = weights_of("test_vit", tmp_path, num_classes=0)
    state = model.state_dict()
    teacher = {f"backbone.{key}": value for key, value in state.items()} | {
        "head.mlp.0.weight": torch.ones(2, 2)
    }
    student = {f"module.{key}": torch.zeros_like(value) for key, value in teacher.items()}
    args = argparse.Namespace(arch="vit_tiny", lr=np.float64(0.1))
    torch.save(
        {"student": student, "teacher": teacher, "epoch": 1, "args": args}, tmp_path / "checkpoint.pth"
    )
    encoder = vidssl.load_encoder(f"timm/test_vit:{tmp_path}/checkpoint.pth")
    clips = noise(1, 3, 2, 160, 160)
    with torch.no_grad():
        expected = model(rearrange(clips, "b c t h w -> (b t) c h w"))
        torch.testing.assert_close(encoder(clips).frames[0], expected, atol=1e-5, rtol=0)
    assert encoder.spec["read"] == {
        "under": "teacher",
        "prefix": "backbone.",
        "left_out": ["head.mlp.*.weight"],
    }
