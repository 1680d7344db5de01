"""Patch features of frames: the encoder's own at its own stride, finer ones by hand, and never a look at what comes later."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches import PatchFeatures, RawPixels, features

NAMES = ("image", "divided", "causal", "convolutions", "chunked", "conv3d")
VIDEO_NETWORKS = {"x3d_xs": 1, "c2d_r50": 2, "mvit_base_16x4": 1}


@pytest.fixture(scope="module")
def encoders(tiny_clip: Path) -> dict[str, VideoEncoder]:
    """Encoders of every family, in training mode, that mix time as soon as they are able to."""
    options: dict[str, dict[str, Any]] = {
        "image": {"temporal": "none"},
        "divided": {},
        "causal": {"causal": True},
        "convolutions": {"temporal": "convolutions"},
        "chunked": {"chunk_frames": 2},
    }
    made = {
        name: vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False, **chosen)
        for name, chosen in options.items()
    }
    made["conv3d"] = vidssl.create_model("conv3d/small")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for encoder in made.values():
            for name, parameter in encoder.named_parameters():
                if (
                    ".fc." in name or name == "time_embedding"
                ):  # zero at the start: time would not be looked at
                    parameter.normal_(std=0.1, generator=generator)
    return made


def video(frames: int = 6, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(0))


def clips_of(encoder: VideoEncoder, clips: Tensor) -> Tensor:
    """(B, T, 3, H, W) in [0, 1] as the encoder wants them."""
    mean, std = (torch.tensor(value)[:, None, None] for value in (encoder.mean, encoder.std))
    return ((clips - mean) / std).transpose(1, 2)


def patches_of(encoder: VideoEncoder, clips: Tensor) -> Tensor:
    """(B, D, h, w): the encoder's own patches in its last slice of time."""
    frozen = copy.deepcopy(encoder).eval()
    with torch.no_grad():
        patches = frozen(clips_of(encoder, clips), patches=True).patches
    assert patches is not None
    return patches[:, -1].permute(0, 3, 1, 2)


@pytest.mark.parametrize("name", NAMES)
def test_a_frame_alone_is_shown_as_the_shortest_clip(encoders: dict[str, VideoEncoder], name: str) -> None:
    encoder, frames = encoders[name], video()
    shortest = {"conv3d": 4, "chunked": 2}.get(name, 1)
    found = PatchFeatures(encoder, stride=16 if name == "conv3d" else None)
    expected = patches_of(encoder, frames[:, None].expand(-1, shortest, -1, -1, -1))
    assert (found.frames, found.dim) == (shortest, expected.shape[1])
    torch.testing.assert_close(found(frames), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_a_window_ends_with_its_frame_and_begins_with_the_first(
    encoders: dict[str, VideoEncoder], name: str
) -> None:
    encoder, frames = encoders[name], video(7)
    found = PatchFeatures(encoder, mode="window", frames=3, stride=16 if name == "conv3d" else None)
    assert found.frames == {"image": 1, "chunked": 2, "conv3d": 4}.get(name, 3)
    earlier = torch.cat([frames[:1]] * (found.frames - 1) + [frames])
    clips = earlier.unfold(0, found.frames, 1).permute(0, 4, 1, 2, 3)
    torch.testing.assert_close(found(frames), patches_of(encoder, clips), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("mode", ["static", "window"])
@pytest.mark.parametrize("name", [*NAMES, *VIDEO_NETWORKS])
def test_later_frames_change_nothing(encoders: dict[str, VideoEncoder], name: str, mode: Any) -> None:
    encoder = encoders[name] if name in encoders else vidssl.create_model(f"pytorchvideo/{name}")
    layer = VIDEO_NETWORKS.get(name)  # the first that mixes time
    found, frames = PatchFeatures(encoder, layer=layer, mode=mode, frames=4), video(9)
    before, now = found(frames), 5
    other = torch.cat([frames[:now], 1 - frames[now:]])
    after = found(other)
    torch.testing.assert_close(after[:now], before[:now])
    assert (after[now:] - before[now:]).abs().amax(
        dim=(1, 2, 3)
    ).min() > 1e-4  # they are looked at in their turn
    earlier = found(torch.cat([1 - frames[: now - 1], frames[now - 1 :]]))
    change = (earlier[now - 1 :] - before[now - 1 :]).abs().amax(dim=(1, 2, 3))
    # "convolutions" mixes the features of frames only, behind the patches
    mixes = mode == "window" and name not in ("image", "convolutions")
    assert (change[0] > 1e-4) == mixes


def test_time_is_looked_at_by_the_network_itself(encoders: dict[str, VideoEncoder]) -> None:
    """The control of the test above: the encoder's patches of a whole clip do change with later frames."""
    for name in ("divided", "conv3d"):
        frames = video(8)
        other = torch.cat([frames[:6], 1 - frames[6:]])
        own, changed = (
            copy.deepcopy(encoders[name]).eval()(clips_of(encoders[name], x[None]), True)
            for x in (frames, other)
        )
        assert own.patches is not None
        assert changed.patches is not None
        assert (own.patches[:, 0] - changed.patches[:, 0]).abs().max() > 1e-4


def test_a_finer_stride_of_a_transformer_is_a_larger_picture(encoders: dict[str, VideoEncoder]) -> None:
    encoder, frames = encoders["image"], video(2, 30, 50)
    found = PatchFeatures(encoder, stride=6)  # of patches of 8
    full = F.pad(frames, (0, 4, 0, 0), mode="replicate")
    large = F.interpolate(full, size=(5 * 8, 9 * 8), mode="bilinear", align_corners=False)
    assert found(frames).shape == (2, 64, 5, 9)
    torch.testing.assert_close(found(frames), patches_of(encoder, large[:, None]), atol=1e-5, rtol=1e-4)


def test_inner_layers_are_the_tokens_behind_their_block(encoders: dict[str, VideoEncoder]) -> None:
    encoder, frames = copy.deepcopy(encoders["image"]).eval(), video(2)
    seen: list[Tensor] = []
    hook = encoder.visual.transformer.resblocks[0].register_forward_hook(lambda *call: seen.append(call[2]))  # type: ignore[operator, union-attr]
    with torch.no_grad():
        encoder(clips_of(encoder, frames[:, None]))
    hook.remove()
    expected = seen[0][:, 1:].transpose(1, 2).unflatten(2, (4, 6))
    for layer in (0, -2):
        torch.testing.assert_close(
            PatchFeatures(encoder, layer=layer)(frames), expected, atol=1e-5, rtol=1e-4
        )
    last = PatchFeatures(encoder, layer=1)(frames)
    torch.testing.assert_close(last, PatchFeatures(encoder)(frames))
    assert not torch.allclose(last, expected)


@pytest.mark.parametrize(
    ("layer", "stride", "strides"),
    [(3, 8, (2, 2, 2, 1)), (3, 2, (2, 1, 1, 1)), (2, 4, (2, 2, 1)), (0, 2, (2,))],
)
def test_late_strides_of_a_convolutional_network_become_one(
    layer: int, stride: int, strides: tuple[int, ...]
) -> None:
    """Against the layers written out, with strides in space of our choice and those in time as they were."""
    encoder = vidssl.create_model("conv3d/small").eval()
    frames = video(2)
    x = clips_of(encoder, frames[:, None].expand(-1, 4, -1, -1, -1))
    x = sum(weight * x[:, channel] for channel, weight in enumerate((0.299, 0.587, 0.114)))[:, None]
    for number, (time, space) in enumerate(zip((2, 1, 2, 1), strides, strict=False)):
        weight = encoder.get_parameter(f"layers.{3 * number}.weight")
        x = (F.conv3d(x, weight, stride=(time, space, space), padding=1) / (1 + 1e-5) ** 0.5).relu()
    found = PatchFeatures(encoder, layer=layer, stride=stride)(frames)
    torch.testing.assert_close(found, x[:, :, -1].detach(), atol=1e-5, rtol=1e-4)


def test_a_convolutional_network_has_stride_eight_unless_its_layer_is_finer(
    encoders: dict[str, VideoEncoder],
) -> None:
    assert [PatchFeatures(encoders["conv3d"], layer=layer).stride for layer in range(4)] == [2, 4, 8, 8]


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_stays_as_it_is(encoders: dict[str, VideoEncoder], name: str) -> None:
    encoder = encoders[name]
    before, shown = {key: x.clone() for key, x in encoder.state_dict().items()}, str(encoder)
    found = PatchFeatures(encoder)
    found(video())
    assert str(encoder) == shown
    assert encoder.training
    assert all(module.training for module in encoder.modules())
    assert encoder.state_dict().keys() == before.keys()
    assert all(torch.equal(x, before[key]) for key, x in encoder.state_dict().items())
    own, shared = encoder.state_dict(), found.encoder.state_dict()
    assert all(own[key].data_ptr() == shared[key].data_ptr() for key in own)  # no second set of weights


@pytest.mark.parametrize("mode", ["static", "window"])
@pytest.mark.parametrize("name", ["divided", "conv3d"])
def test_however_many_frames_are_shown_at_a_time(
    encoders: dict[str, VideoEncoder], name: str, mode: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, frames = PatchFeatures(encoders[name], mode=mode, frames=4), video(7)
    together = found(frames)
    for pixels in (1, 3 * found.frames * 32 * 48):
        monkeypatch.setattr(features, "PIXELS", pixels)
        torch.testing.assert_close(found(frames), together, atol=1e-5, rtol=1e-4)


def test_attention_does_not_hold_all_pairs_of_patches(
    encoders: dict[str, VideoEncoder], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Torch's fast path would, and is left as it was for everybody else, also after a failure."""
    found, enabled = PatchFeatures(encoders["image"]), torch.backends.mha.get_fastpath_enabled()
    during: list[bool] = []
    block = found.encoder.visual.transformer.resblocks[0]  # type: ignore[union-attr, index]
    block.register_forward_hook(lambda *_: during.append(torch.backends.mha.get_fastpath_enabled()))
    found(video())
    assert during == [False]
    assert torch.backends.mha.get_fastpath_enabled() == enabled

    def fails(clips: Tensor, layer: int) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(found.encoder, "layer_map", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        found(video())
    assert torch.backends.mha.get_fastpath_enabled() == enabled


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), stride=st.sampled_from([2, 4, 8, 16]))
def test_cells_cover_frames_of_any_size(height: int, width: int, stride: int) -> None:
    frames = torch.rand(1, 3, height, width)
    grid = (-(-height // stride), -(-width // stride))
    padded = F.pad(frames, (0, stride * grid[1] - width, 0, stride * grid[0] - height), mode="replicate")
    for found in (RawPixels(stride), PatchFeatures(SMALL, stride=stride)):
        assert found(frames).shape == (1, found.dim, *grid)
        torch.testing.assert_close(found(frames), found(padded))


SMALL = vidssl.create_model("conv3d/small")


def test_raw_pixels_are_the_means_of_small_squares() -> None:
    frames = video(2, 16, 24)
    found = RawPixels(stride=8, side=2)
    assert (found.stride, found.dim) == (8, 12)
    expected = (
        frames.unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5)) - 0.45
    ) / 0.225  # (2, 3, 4, 6) squares
    cell = expected[1, :, 2:4, 4:6]  # of the cell in row 1, column 2
    torch.testing.assert_close(found(frames)[1, :, 1, 2], cell.flatten())
    for wrong in ({"stride": 0}, {"side": 0}):
        with pytest.raises(VidsslError, match="=0: must be at least 1"):
            RawPixels(**wrong)


@pytest.mark.parametrize(
    ("name", "wrong", "said"),
    [
        ("conv3d", {"stride": 7}, "stride=7: must be 2 or 4 or 8 or 16 for layer 3"),
        ("conv3d", {"layer": 1, "stride": 8}, "stride=8: must be 2 or 4 for layer 1"),
        ("conv3d", {"layer": 4}, "layer=4: must be from 0 to 3, or from -4 to -1"),
        ("image", {"layer": -3}, "layer=-3: must be from 0 to 1, or from -2 to -1"),
        ("image", {"stride": 9}, "stride=9: must be from 1 to 8, the patch"),
        ("image", {"stride": 0}, "stride=0: must be from 1"),
        ("image", {"mode": "windows"}, "mode='windows': unknown; did you mean 'window'"),
        ("divided", {"mode": "window", "frames": 0}, "frames=0: must be at least 1"),
    ],
)
def test_wrong_choices_are_named(
    encoders: dict[str, VideoEncoder], name: str, wrong: dict[str, Any], said: str
) -> None:
    with pytest.raises(VidsslError, match=said):
        PatchFeatures(encoders[name], **wrong)


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        (torch.zeros(3, 4, 4), r"shape \(3, 4, 4\): must be \(T, 3, H, W\)"),
        (torch.zeros(2, 4, 4, 3), r"shape \(2, 4, 4, 3\)"),
        (torch.zeros(0, 3, 4, 4), r"none of them 0"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.uint8), "frames are torch.uint8: must be floating point"),
        (torch.full((1, 3, 4, 4), 255.0), r"from 255 to 255: must be RGB in \[0, 1\]"),
        (torch.tensor(float("nan")).expand(1, 3, 4, 4), "from nan to nan"),
    ],
)
def test_frames_that_are_none_are_named(frames: Tensor, said: str) -> None:
    for found in (RawPixels(), PatchFeatures(SMALL)):
        with pytest.raises(VidsslError, match=said):
            found(frames)
