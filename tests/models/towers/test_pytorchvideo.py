"""pytorchvideo networks behind the encoder interface."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder
from vidssl.models.load import load
from vidssl.models.towers.pytorchvideo import NETWORKS, PytorchVideoEncoder


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("x3d_s", {4: 4, 5: 5}),
        ("slow_r50", {3: 3}),
        ("i3d_r50", {4: 2, 5: 2}),
        ("r2plus1d_r50", {4: 1, 5: 2}),
    ],
)
def test_convolutional_networks(name: str, lengths: dict[int, int]) -> None:
    encoder = vidssl.create_model(f"pytorchvideo/{name}").eval()
    width = NETWORKS[name].width
    assert (encoder.embed_dim, encoder.width, encoder.mean[0], encoder.std[0]) == (width, width, 0.45, 0.225)
    for length, expected in lengths.items():
        with torch.no_grad():
            features = encoder(torch.randn(2, 3, length, 64, 64), patches=True)
        assert features.frames.shape == (2, expected, width)
        assert features.patches is not None
        assert features.patches.shape == (2, expected, 2, 2, width)
        torch.testing.assert_close(features.frames, features.patches.mean(dim=(2, 3)))
        torch.testing.assert_close(features.clip, features.frames.mean(dim=1))


def test_x3d_is_the_published_network_up_to_its_head() -> None:
    from pytorchvideo.models.hub import x3d_s

    torch.manual_seed(0)
    whole = x3d_s().eval()
    torch.manual_seed(0)
    encoder = vidssl.create_model("pytorchvideo/x3d_s").eval()
    clips = torch.randn(1, 3, 13, 160, 160)
    with torch.no_grad():
        patches = encoder(clips, patches=True).patches
        expected = whole(clips)
        assert patches is not None
        head = whole.blocks[-1](patches.permute(0, 4, 1, 2, 3))
    torch.testing.assert_close(head, expected, atol=1e-5, rtol=0)


def test_multiscale_transformer() -> None:
    encoder = vidssl.create_model("pytorchvideo/mvit_base_16x4", image_size=64, max_frames=4).eval()
    assert isinstance(encoder, PytorchVideoEncoder)
    clips = torch.randn(1, 3, 4, 64, 64)
    with torch.no_grad():
        features = encoder(clips, patches=True)
        tokens = encoder.net(clips)
    assert features.frames.shape == (1, 2, 768)
    assert features.patches is not None
    assert features.patches.shape == (1, 2, 2, 2, 768)
    torch.testing.assert_close(features.patches.flatten(1, 3), tokens[:, 1:])
    with pytest.raises(VidsslError, match="max_frames=4, image_size=64"):
        encoder(torch.randn(1, 3, 8, 64, 64))
    encoder.check_size(4, 64)
    for frames, size in ((8, 64), (4, 96)):
        with pytest.raises(VidsslError, match="max_frames=4, image_size=64"):
            encoder.check_size(frames, size)


def test_weights_and_exports(tmp_path: Path) -> None:
    from pytorchvideo.models.hub import x3d_xs

    state = x3d_xs().state_dict()
    torch.save({"model_state": state}, tmp_path / "x3d.pyth")
    encoder = vidssl.create_model("pytorchvideo/x3d_xs", str(tmp_path / "x3d.pyth"))
    assert torch.equal(
        encoder.state_dict()["net.blocks.0.conv.conv_t.weight"], state["blocks.0.conv.conv_t.weight"]
    )
    loaded = load(save_encoder(encoder, tmp_path / "export"))
    clips = torch.randn(1, 3, 4, 64, 64)
    assert torch.equal(loaded(clips).clip, encoder.eval()(clips).clip)
    assert loaded.spec == encoder.spec
    second = vidssl.create_model("pytorchvideo/x3d_xs", str(tmp_path / "export")).eval()
    assert torch.equal(second(clips).clip, loaded(clips).clip)
    with pytest.raises(VidsslError, match="another family"):
        vidssl.create_model("ViT-B-32", str(tmp_path / "export"))
    state.pop("blocks.0.conv.conv_t.weight")
    torch.save({"model_state": state}, tmp_path / "torn.pyth")
    with pytest.raises(VidsslError, match=r"1 missing \(blocks\.0\.conv\.conv_t\.weight\)"):
        vidssl.create_model("pytorchvideo/x3d_xs", str(tmp_path / "torn.pyth"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "pytorchvideo/x3d_z"}, "did you mean 'x3d_"),
        ({"name": "pytorchvideo/slowfast_r50"}, "allowed: x3d_xs"),
        ({"name": "pytorchvideo/x3d_s", "image_sise": 3}, "did you mean 'image_size'?"),
        ({"name": "pytorchvideo/x3d_s", "max_frames": 0}, "max_frames: 0"),
        ({"name": "pytorchvideo/x3d_s", "pretrained": "kinetics"}, "no such checkpoint file"),
    ],
)
def test_mistakes(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(VidsslError) as error:
        vidssl.create_model(**arguments)
    assert words in str(error.value)


def test_too_few_frames_and_no_transforms() -> None:
    encoder = vidssl.create_model("pytorchvideo/c2d_r50")
    with pytest.raises(VidsslError, match="needs at least 2"):
        encoder(torch.randn(1, 3, 1, 64, 64))
    assert "pytorchvideo.transforms" not in sys.modules
