"""create_model: from a name to an encoder, and every way in which that goes wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import vidssl
from tests.models.tiny_weights import assert_carries, one_line, tensors_of
from tests.tiny_clip import TINY_CONFIG
from vidssl.errors import VidsslError
from vidssl.models.factory import build_from_spec
from vidssl.models.towers.frame_average import FrameAverageEncoder


def test_random_weights_follow_the_seed_and_touch_nothing_else(tiny_name: str) -> None:
    import logging

    handlers = list(logging.getLogger().handlers)
    states = []
    for seed, text in ((1, True), (1, False), (2, True)):
        torch.manual_seed(seed)
        states.append(vidssl.create_model(tiny_name, load_text=text, temporal_init="random").state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["visual.proj"], states[2]["visual.proj"])
    assert logging.getLogger().handlers == handlers
    from open_clip import factory

    assert factory._MODEL_CONFIGS[tiny_name] == TINY_CONFIG


def test_every_source_of_the_same_weights(tiny_name: str, tiny_clip: Path, tmp_path: Path) -> None:
    tensors = tensors_of(tiny_clip)
    torch.save(tensors, tmp_path / "plain.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in tensors.items()}}, tmp_path / "wrapped.bin"
    )
    prefixes = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection")
    custom = {f"text.{k}" if k.startswith(prefixes) else k: v for k, v in tensors.items()}
    save_file(custom, tmp_path / "custom.safetensors")
    files = [tmp_path / "plain.pt", tmp_path / "wrapped.bin", tmp_path / "custom.safetensors"]
    for pretrained in (*map(str, files), f"local-dir:{tiny_clip}"):
        encoder = vidssl.create_model(tiny_name, pretrained)
        assert_carries(encoder, tiny_clip)
        assert encoder.spec["pretrained"] == pretrained
    assert_carries(vidssl.create_model(f"local-dir:{tiny_clip}"), tiny_clip)
    assert_carries(vidssl.create_model(f"local-dir:{tiny_clip}", str(files[0])), tiny_clip)
    random = vidssl.create_model(f"local-dir:{tiny_clip}", load_weights=False)
    assert random.spec["pretrained"] is None
    assert not torch.equal(random.state_dict()["visual.proj"], tensors["visual.proj"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "ViT-B-61"}, "did you mean 'ViT-B-16'?"),
        ({"name": "nothing like it"}, "local-dir:/path"),
        ({"name": "ViT-B-16", "pretrained": "laion2b_s34b_b88"}, "did you mean 'laion2b_s34b_b88k'?"),
        ({"name": "ViT-B-16", "pretrained": "imagenet"}, "tags: openai, laion400m_e31"),
        ({"name": "ViT-B-16", "pretrained": "openai"}, "did you mean 'ViT-B-16-quickgelu'?"),
        ({"name": "ViT-B-16", "pretrained": "/nowhere/x.pt"}, "no such checkpoint file"),
        ({"name": "ViT-B-16", "pretrained": "weights/x.npz"}, "no such checkpoint file"),
        ({"name": "local-dir:/nowhere"}, "no such folder; expected one of open_clip's form"),
        ({"name": "ViT-B-16", "temporal": "dividend"}, "did you mean 'divided'?"),
        ({"name": "ViT-B-16", "cls_mod": "shared"}, "did you mean 'cls_mode'?"),
        ({"name": "ViT-B-16", "cls_mode": "share"}, "did you mean 'shared'?"),
        ({"name": "ViT-B-16", "temporal_init": "zero"}, "allowed: copy, random"),
        ({"name": "ViT-B-16", "max_frames": 0}, "max_frames: 0"),
        ({"name": "ViT-B-16", "max_frames": "8"}, "max_frames: '8'"),
        ({"name": "ViT-B-16", "load_text": 1}, "true or false"),
        ({"name": "RN50", "load_text": False}, "a ModifiedResNet"),
        ({"name": "convnext_tiny", "temporal": "joint", "load_text": False}, "a ConvNeXt"),
        ({"name": "coca_ViT-B-32", "load_text": False}, "captioning"),
        ({"name": "ViT-B-16", "temporal": "none", "causal": True}, "causal: True: has no effect"),
        ({"name": "RN50", "temporal": "none", "chunk_frames": 2}, "chunk_frames: 2: has no effect"),
    ],
)
def test_mistakes_are_one_clear_line(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(**arguments)
    assert words in one_line(error)


def test_a_resnet_is_averaged_over_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    from open_clip import factory

    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
        "text_cfg": TINY_CONFIG["text_cfg"],
    }
    monkeypatch.setitem(factory._MODEL_CONFIGS, "RN-tiny", config)
    encoder = vidssl.create_model("RN-tiny", temporal="none").eval()
    assert isinstance(encoder, FrameAverageEncoder)
    clips = torch.randn(2, 3, 3, 32, 32)
    features = encoder(clips)
    assert features.frames.shape == (2, 3, 16)
    torch.testing.assert_close(features.frames[1, 2], encoder.visual(clips[1:, :, 2])[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(features.clip, features.frames.mean(dim=1))
    with pytest.raises(VidsslError, match="no patch tokens"):
        encoder(clips, patches=True)
    encoder.train()
    encoder.check_size(3, 32)
    for refuse in (lambda: encoder.check_size(3, 64), lambda: encoder(torch.randn(1, 3, 1, 64, 64))):
        with pytest.raises(
            VidsslError,
            match=r"64x64 pixels: are not for this image tower, made for 32 a side \(allowed: 31 to 62\)$",
        ):
            refuse()
    for side in (31, 62):
        encoder.check_size(3, side)
    for side in (30, 63):
        with pytest.raises(VidsslError, match="allowed: 31 to 62"):
            encoder.check_size(3, side)
    assert encoder.training
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    monkeypatch.setattr(encoder.visual, "attnpool", torch.nn.Identity())  # takes any size
    encoder.check_size(3, 96)
    assert all(
        torch.equal(before[key], value) for key, value in encoder.state_dict().items() if key in before
    )


@pytest.mark.parametrize("temporal", ["divided", "none"])
def test_a_spec_rebuilds_the_module(temporal: str, tiny_clip: Path) -> None:
    options: dict[str, Any] = {"cls_mode": "shared", "max_frames": 3} if temporal == "divided" else {}
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}", temporal=temporal, **options)
    spec = json.loads(json.dumps(encoder.spec))
    twin = build_from_spec(spec, text=False)
    twin.load_state_dict(encoder.state_dict())
    clips = torch.randn(1, 3, 4, 32, 32)
    assert torch.equal(twin(clips).clip, encoder(clips).clip)
    assert twin.spec == encoder.spec
    assert twin.text is None
    assert build_from_spec(spec, text=True).text is not None


@pytest.mark.parametrize("damage", ["family", "temporal", "model_cfg", "options"])
def test_a_damaged_spec_is_an_error(damage: str, tiny_clip: Path) -> None:
    spec = dict(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False).spec)
    spec[damage] = "something else"
    with pytest.raises(VidsslError):
        build_from_spec(spec, text=False)
