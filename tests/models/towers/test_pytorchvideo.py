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


def test_multiscale_transformer(tmp_path: Path) -> None:
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
    weights = {**encoder.net.state_dict(), "head.proj.weight": torch.zeros(1)}  # type: ignore[union-attr]
    torch.save({"model_state": weights}, tmp_path / "mvit.pyth")
    options = {"image_size": 64, "max_frames": 4}
    again = vidssl.create_model("pytorchvideo/mvit_base_16x4", str(tmp_path / "mvit.pyth"), **options)
    assert all(
        torch.equal(value, weights[key.removeprefix("net.")]) for key, value in again.state_dict().items()
    )
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
        ({"name": "pytorchvideo/slow_r101"}, "allowed: x3d_xs"),
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


@torch.no_grad()
def test_slowfast_is_what_its_classifier_sees() -> None:
    """Two pathways: the clip feature through the classifier's map is what the whole network says."""
    from pytorchvideo.models.hub import slowfast_r50

    encoder = vidssl.create_model("pytorchvideo/slowfast_r50").eval()
    assert (encoder.usual_frames, encoder.time_stride, encoder.width) == (32, 4, 2304)
    with torch.device("meta"):
        whole = slowfast_r50(head_pool_kernel_sizes=((2, 2, 2), (8, 2, 2))).eval()
    torch.manual_seed(0)
    head = {"blocks.6.proj.weight": torch.randn(400, 2304), "blocks.6.proj.bias": torch.randn(400)}
    whole.load_state_dict({**encoder.net.state_dict(), **head}, assign=True)  # type: ignore[union-attr]
    clips = torch.randn(1, 3, 8, 64, 64)
    features = encoder(clips, patches=True)
    expected = whole([clips[:, :, [0, 7]], clips])
    assert features.patches.shape == (1, 2, 2, 2, 2304)
    said = features.clip @ head["blocks.6.proj.weight"].T + head["blocks.6.proj.bias"]
    torch.testing.assert_close(said, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(features.clip, features.frames.mean(dim=1))
    shuffled = encoder(clips[:, :, [0, 2, 1, 3, 4, 5, 6, 7]]).clip  # frames of the fast pathway alone
    assert not torch.allclose(shuffled, features.clip)
    with pytest.raises(VidsslError, match="6 frames: must be a multiple of 4"):
        encoder(clips[:, :, :6])


@torch.no_grad()
def test_a_multiscale_transformer_of_images() -> None:
    encoder = vidssl.create_model("pytorchvideo/mvit_base_16", image_size=64).eval()
    assert (encoder.sees, encoder.mean) == ("frame", (0.485, 0.456, 0.406))
    clips = torch.randn(1, 3, 3, 64, 64)
    found = encoder(clips, patches=True).patches
    expected = encoder.net(clips[0].transpose(0, 1))[:, 1:]  # type: ignore[operator]
    torch.testing.assert_close(found.flatten(2, 3)[0], expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_x3d_for_mobile_processors(tmp_path: Path) -> None:
    from pytorchvideo.models.hub import efficient_x3d_xs

    torch.manual_seed(0)
    whole = efficient_x3d_xs().eval()
    for module in whole.modules():  # batch norm that matters
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    torch.save(whole.state_dict(), tmp_path / "x.pyth")
    encoder = vidssl.load_encoder(f"pytorchvideo/efficient_x3d_xs:{tmp_path}/x.pyth")
    clips = torch.randn(1, 3, 4, 160, 160)
    seen: list[torch.Tensor] = []
    whole.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    whole(clips)
    found = encoder(clips, patches=True).patches
    torch.testing.assert_close(found.permute(0, 4, 1, 2, 3), seen[0], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_every_network_of_full_size_reads_its_published_form(name: str, tmp_path: Path) -> None:
    """A file as published, with heads; shown clips of its own length and size, its features are what reaches its head."""
    from pytorchvideo.models import hub

    torch.manual_seed(0)
    whole = getattr(hub, name)().eval()
    torch.save({"model_state": whole.state_dict()}, tmp_path / "x.pyth")
    encoder = vidssl.load_encoder(f"pytorchvideo/{name}:{tmp_path}/x.pyth")
    (tmp_path / "x.pyth").unlink()
    length = encoder.usual_frames
    clips = torch.randn(1, 3, length, encoder.image_size, encoder.image_size)
    seen: list[Any] = []
    core = getattr(whole, "model", whole)
    if name.startswith("mvit"):
        core.head = torch.nn.Identity()
    elif name.startswith("efficient"):
        core.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    elif "detection" not in name or "slowfast" in name:
        place = -2 if "slowfast" in name and "detection" not in name else -1
        core.blocks[place].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    shown: Any = clips
    if "slowfast" in name:
        shown = [clips[:, :, torch.linspace(0, length - 1, length // 4).long()], clips]
    elif name == "mvit_base_16":
        shown = clips[:, :, 0]
    output = core(shown)
    reached = seen[0] if seen else output
    if isinstance(reached, list):
        expected = torch.cat([part.mean(dim=(2, 3, 4)) for part in reached], dim=1)
    else:
        expected = reached[:, 1:].mean(dim=1) if name.startswith("mvit") else reached.mean(dim=(2, 3, 4))
    torch.testing.assert_close(encoder(clips).clip, expected, atol=1e-5, rtol=1e-4)
