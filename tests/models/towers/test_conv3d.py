"""The small 3-D convolutional network."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn.functional import conv3d

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.export import save_encoder
from vidssl.models.load import load, load_encoder
from vidssl.models.towers.conv3d import LUMA


@pytest.mark.parametrize(
    ("length", "side", "grid"), [(8, 32, (2, 2, 2)), (5, 40, (2, 3, 3)), (1, 16, (1, 1, 1))]
)
def test_shapes_and_means(length: int, side: int, grid: tuple[int, int, int]) -> None:
    encoder = vidssl.create_model("conv3d/small").eval()
    with torch.no_grad():
        features = encoder(torch.randn(2, 3, length, side, side), patches=True)
    assert features.patches is not None
    assert features.patches.shape == (2, *grid, encoder.width)
    torch.testing.assert_close(features.frames, features.patches.mean(dim=(2, 3)))
    torch.testing.assert_close(features.clip, features.frames.mean(dim=1))


def test_layers_are_convolutions_of_grey_frames() -> None:
    encoder = vidssl.create_model("conv3d/small").eval()
    clips = torch.randn(2, 3, 4, 16, 16)
    with torch.no_grad():
        x = sum(weight * clips[:, channel] for channel, weight in enumerate(LUMA))[:, None]
        for name, stride in zip((0, 3, 6, 9), ((2, 2, 2), (1, 2, 2), (2, 2, 2), (1, 2, 2)), strict=True):
            x = conv3d(x, encoder.get_parameter(f"layers.{name}.weight"), stride=stride, padding=1)
            x = (x / (1 + 1e-5) ** 0.5).relu()  # batch norm as it starts
        torch.testing.assert_close(encoder(clips).clip, x.mean(dim=(2, 3, 4)), atol=1e-5, rtol=1e-4)


def test_it_tells_a_clip_from_its_reverse_and_is_read_back_as_written(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder = vidssl.create_model("conv3d/small").eval()
    clips = torch.randn(2, 3, 8, 32, 32)
    clip = encoder(clips).clip
    assert (encoder(clips.flip(2)).clip - clip).abs().max() > 1e-3
    save_encoder(encoder, tmp_path / "encoder")
    torch.testing.assert_close(load(tmp_path / "encoder")(clips).clip, clip)
    again = vidssl.create_model("conv3d/small", str(tmp_path / "encoder")).eval()
    torch.testing.assert_close(again(clips).clip, clip)
    torch.testing.assert_close(
        load_encoder("conv3d/small")(clips).clip, load_encoder("conv3d/small")(clips).clip
    )


def test_mistakes_are_named() -> None:
    with pytest.raises(VidsslError, match="did you mean 'small'"):
        vidssl.create_model("conv3d/smal")
    with pytest.raises(VidsslError, match="of conv3d/small"):
        vidssl.create_model("conv3d/small", widht=3)
