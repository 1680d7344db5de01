"""Towers of other libraries: their own features at their own size and strides, and networks built with other ones."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import vidssl
from tests.tiny_clip import tiny_config, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches import PatchFeatures

TIMM = {
    "vit": {"timm_model_name": "test_vit", "timm_pool": "token"},
    "convnext": {"timm_model_name": "test_convnext", "timm_pool": "avg"},
    "timm resnet": {"timm_model_name": "test_resnet", "timm_pool": "avg"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("towers")


def image_tower(folder: Path, name: str) -> VideoEncoder:
    """A small tower of that kind, with every parameter away from its initial value."""
    changes: dict[str, Any] = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 64, "head_width": 16}
    if name in TIMM:
        changes = {**TIMM[name], "timm_proj": "linear", "image_size": 160}
    place = folder / name
    if not place.is_dir():
        write_tiny_clip(place, tiny_config(**changes))
    return vidssl.create_model(f"local-dir:{place}", temporal="none", load_text=False).eval()


def video(frames: int = 2, height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def normalised(encoder: VideoEncoder, frames: Tensor) -> Tensor:
    mean, std = (torch.tensor(value)[:, None, None] for value in (encoder.mean, encoder.std))
    return (frames - mean) / std


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "length", "changes"),
    [
        ("x3d_s", 1, {"stage_spatial_stride": (2, 2, 1, 1)}),
        ("i3d_r50", 2, {"stage_spatial_h_stride": (1, 2, 1, 1), "stage_spatial_w_stride": (1, 2, 1, 1)}),
        ("r2plus1d_r50", 4, {"stage_spatial_stride": (2, 2, 1, 1)}),
    ],
)  # fmt: skip
@torch.no_grad()
def test_video_networks_have_stride_eight_as_if_built_so(
    name: str, length: int, changes: dict[str, Any]
) -> None:
    from pytorchvideo.models import hub

    encoder = vidssl.create_model(f"pytorchvideo/{name}").eval()
    for module in encoder.modules():  # batch norm that matters
        if isinstance(module, torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    with torch.device("meta"):
        other = getattr(hub, name)(**changes).eval()
    other.blocks = torch.nn.Sequential(*other.blocks[:-1])
    other.load_state_dict(encoder.net.state_dict(), assign=True)  # type: ignore[union-attr]
    frames = video(1, 32, 64)
    clips = normalised(encoder, frames)[:, :, None].expand(-1, -1, length, -1, -1)
    found = PatchFeatures(encoder)
    assert (found.stride, found.frames, found.dim) == (8, length, encoder.width)
    close(found(frames), other.blocks(clips)[:, :, -1])
    last = PatchFeatures(encoder, stride=32)(frames)
    patches = encoder(clips, patches=True).patches
    assert patches is not None
    close(last, patches[:, -1].permute(0, 3, 1, 2))
    close(PatchFeatures(encoder, layer=1)(frames), encoder.net.blocks[:2](clips)[:, :, -1])  # type: ignore[union-attr, operator, index]


@torch.no_grad()
def test_positions_of_a_multiscale_transformer_are_interpolated() -> None:
    """Against a network that is built for the size of the frames, with the interpolated tables."""
    options = {"image_size": 64, "max_frames": 8}
    encoder = vidssl.create_model("pytorchvideo/mvit_base_16x4", **options).eval()
    tables = "net.cls_positional_encoding.pos_embed_{}"
    for table in ("spatial", "temporal", "class"):
        torch.nn.init.normal_(encoder.get_parameter(tables.format(table)))
    weights = dict(encoder.state_dict())
    space = weights[tables.format("spatial")].reshape(1, 16, 16, -1).permute(0, 3, 1, 2)
    grown = F.interpolate(space, size=(24, 24), mode="bicubic", antialias=True)
    weights[tables.format("spatial")] = grown.flatten(2).transpose(1, 2)
    time = weights[tables.format("temporal")].transpose(1, 2)
    weights[tables.format("temporal")] = F.interpolate(time, size=1, mode="linear").transpose(1, 2)
    other = vidssl.create_model("pytorchvideo/mvit_base_16x4", image_size=96, max_frames=2).eval()
    other.load_state_dict(weights)
    frames = video(2, 96, 96)
    clips = normalised(encoder, frames)[:, :, None].expand(-1, -1, 2, -1, -1)
    found = PatchFeatures(encoder)
    assert (found.stride, found.frames) == (32, 2)
    patches = other(clips, patches=True).patches
    assert patches is not None
    close(found(frames), patches[:, -1].permute(0, 3, 1, 2))
    assert PatchFeatures(encoder, layer=4)(video(1, 40, 70)).shape == (1, 384, 3, 5)  # stride 16
    window = PatchFeatures(encoder, mode="window")
    assert window.frames == 8
    shown = video(3, 64, 64)
    clip = normalised(encoder, torch.cat([shown[:1].expand(5, -1, -1, -1), shown]))
    patches = encoder(clip.transpose(0, 1)[None], patches=True).patches
    assert patches is not None
    close(window(shown)[2], patches[0, -1].permute(2, 0, 1))


@torch.no_grad()
def test_resnet_of_clip_has_stride_eight_as_if_built_so(folder: Path) -> None:
    encoder = image_tower(folder, "resnet")
    visual: Any = encoder.visual
    frames = video()
    x = normalised(encoder, frames)
    maps = [visual.stem(x)]
    for stage in (visual.layer1, visual.layer2, visual.layer3, visual.layer4):
        maps.append(stage(maps[-1]))
    for layer, expected in enumerate(maps):
        close(PatchFeatures(encoder, layer=layer, stride=(4, 4, 8, 16, 32)[layer])(frames), expected)
    deep = maps[2]
    for stage, planes in ((visual.layer3, 32), (visual.layer4, 64)):
        visual._inplanes = deep.shape[1]
        fresh = visual._make_layer(planes, 1, stride=1).eval()
        fresh.load_state_dict(stage.state_dict())
        deep = fresh(deep)
    found = PatchFeatures(encoder)
    assert (found.stride, found.dim, found.layer) == (8, 256, 4)
    close(found(frames), deep)


@torch.no_grad()
def test_transformers_of_timm_take_any_size(folder: Path) -> None:
    import timm

    encoder = image_tower(folder, "vit")
    trunk: Any = encoder.visual.trunk  # type: ignore[union-attr]
    frames = video(2, 160, 160)
    found = PatchFeatures(encoder)
    own = trunk.forward_features(normalised(encoder, frames))[:, trunk.num_prefix_tokens :]
    close(found(frames), own.transpose(1, 2).unflatten(2, (10, 10)))
    other = timm.create_model("test_vit", dynamic_img_size=True, num_classes=0).eval()
    other.load_state_dict(trunk.state_dict())
    frames = video(2, 48, 96)
    tokens = other.forward_features(normalised(encoder, frames))[:, other.num_prefix_tokens :]
    close(found(frames), tokens.transpose(1, 2).unflatten(2, (3, 6)))
    large = F.interpolate(frames, size=(96, 192), mode="bilinear")
    tokens = other.forward_features(normalised(encoder, large))[:, other.num_prefix_tokens :]
    close(PatchFeatures(encoder, stride=8)(frames), tokens.transpose(1, 2).unflatten(2, (6, 12)))
    assert trunk.patch_embed.img_size == (160, 160)  # as it was


@torch.no_grad()
def test_convolutional_trunks_of_timm_keep_what_a_stride_would_have_left_out(folder: Path) -> None:
    """A stage of stride 1 begins with what one of stride 2 has, and the pixels between."""
    encoder = image_tower(folder, "convnext")
    frames = video(2, 64, 64)
    layers = [
        PatchFeatures(encoder, layer=layer, stride=stride) for layer, stride in enumerate((4, 8, 16, 32))
    ]
    maps = encoder.visual.trunk.forward_intermediates(
        normalised(encoder, frames), norm=True, intermediates_only=True
    )  # type: ignore[union-attr, operator]
    for found, expected in zip(layers, maps, strict=True):
        close(found(frames), expected)
    fine = PatchFeatures(encoder, layer=2, stride=8)
    assert fine(frames).shape[2:] == (8, 8)
    downsample = [one.encoder.visual.trunk.stages[2].downsample for one in (fine, layers[2])]  # type: ignore[union-attr, index]
    close(downsample[0](maps[1])[:, :, ::2, ::2], downsample[1](maps[1]))


@pytest.mark.parametrize("name", ["resnet", *TIMM])
@torch.no_grad()
def test_image_towers_see_frames_alone_and_stay_as_they_are(folder: Path, name: str) -> None:
    encoder, frames = image_tower(folder, name).train(), video(4, 50, 70)
    before, shown = {key: x.clone() for key, x in encoder.state_dict().items()}, str(encoder)
    for mode in ("static", "window"):
        found = PatchFeatures(encoder, mode=mode)  # type: ignore[arg-type]
        assert found.frames == 1
        features = found(frames)
        close(features[2:3], found(frames[2:3]))
        assert features.shape[2:] == (-(-50 // found.stride), -(-70 // found.stride))
    assert str(encoder) == shown
    assert all(torch.equal(x, before[key]) for key, x in encoder.state_dict().items())


def test_strides_that_stay_are_named(folder: Path) -> None:
    encoder = image_tower(folder, "timm resnet")  # whose second stride is of a pool between two layers
    strides = [PatchFeatures(encoder, layer=layer).stride for layer in range(5)]
    assert strides == [2, 4, 8, 8, 8]
    with pytest.raises(VidsslError, match="stride=2: must be 4: strides of this network stay"):
        PatchFeatures(encoder, layer=1, stride=2)


def test_an_encoder_without_layers_is_named(tiny_clip: Path) -> None:
    class Blind(VideoEncoder):
        pass

    made = vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none", load_text=False)
    made.__class__ = Blind
    with pytest.raises(VidsslError, match="shows no patch features of its layers"):
        PatchFeatures(made)


def test_strides_grow_with_the_layers() -> None:
    """What `set_stride` relies on."""
    from vidssl.models.patches.strides import layers_of

    for name in ("conv3d/small", "pytorchvideo/x3d_xs", "pytorchvideo/c2d_r50"):
        layers = layers_of(vidssl.create_model(name).eval())
        assert all(first.stride <= second.stride for first, second in pairwise(layers))


@torch.no_grad()
def test_strides_between_the_layers_that_timm_names_are_set_too() -> None:
    """EfficientNet's layers are its blocks 0, 1, 2, 4 and 6; the strides of 16 and 32 are in 3 and 5."""
    import timm

    torch.manual_seed(0)
    encoder = vidssl.create_model("timm/tf_efficientnet_lite0", temporal="none").eval()
    other: Any = timm.create_model("tf_efficientnet_lite0").eval()
    weights = encoder.visual.trunk.state_dict()  # type: ignore[union-attr, operator]
    other.load_state_dict({k: x for k, x in weights.items() if k in other.state_dict()}, strict=False)
    frames = video(1, 64, 96)
    x = other.bn1(other.conv_stem(normalised(encoder, frames)))
    close(PatchFeatures(encoder, stride=32)(frames), other.blocks(x))
    for block in (3, 5):
        for module in other.blocks[block].modules():
            if isinstance(module, torch.nn.Conv2d):
                module.stride = (1, 1)
    found = PatchFeatures(encoder)
    assert found.stride == 8
    close(found(frames), other.blocks(x))
