"""Convolutions over the frame features of an image model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.interpolate import interpolate
from vidssl.models.temporal.convolutions import TemporalConvolutions


def test_an_encoder_starts_as_the_image_model_and_reads_the_order_of_frames_later(tiny_clip: Path) -> None:
    name = f"local-dir:{tiny_clip}"
    image = vidssl.create_model(name, temporal="none").eval()
    video = vidssl.create_model(name, temporal="convolutions").eval()
    clips = torch.randn(2, 3, 6, image.image_size, image.image_size)
    with torch.no_grad():
        torch.testing.assert_close(video(clips).frames, image(clips).frames, atol=1e-6, rtol=0)
        torch.nn.init.normal_(video.get_parameter("temporal_head.fc.weight"))
        learned, reverse = video(clips).clip, video(clips.flip(2)).clip
        assert (learned - image(clips).clip).abs().max() > 1e-3
        assert (learned - reverse).abs().max() > 1e-3
        middle = interpolate(video, image, 0.5)
        start = interpolate(video, image, 0.0)(clips).clip
        torch.testing.assert_close(start, image(clips).clip, atol=1e-6, rtol=0)
    torch.testing.assert_close(
        middle.get_parameter("temporal_head.fc.weight"), video.get_parameter("temporal_head.fc.weight") / 2
    )
    with pytest.raises(VidsslError, match="temporal='convolutions'"):
        vidssl.create_model(name, temporal="convolutions", causal=True)


def test_a_frame_sees_three_neighbours_on_either_side_and_what_does_not_change_is_not_seen() -> None:
    torch.manual_seed(0)
    layer = TemporalConvolutions(4).double()
    torch.nn.init.normal_(layer.fc.weight)
    frames = torch.randn(1, 12, 4).double()
    torch.testing.assert_close(layer(frames + torch.randn(4).double()), layer(frames))
    changed = frames.clone()
    change = torch.randn(4).double()
    changed[0, 0] += change
    changed[0, 11] -= change  # so that the mean over the clip stays
    seen = ((layer(changed) - layer(frames)).abs().amax(dim=2) > 1e-9)[0].nonzero()[:, 0].tolist()
    assert seen == [0, 1, 2, 3, 8, 9, 10, 11]


def test_with_cells_a_clip_with_little_change_gives_little_and_a_still_one_nothing() -> None:
    torch.manual_seed(0)
    layer = TemporalConvolutions(8, cells=12).double()
    torch.nn.init.normal_(layer.fc.weight)
    still, noise = torch.randn(2, 1, 20).double().expand(-1, 10, -1), torch.randn(2, 10, 20).double()
    given = layer(still)
    torch.testing.assert_close(given[0], given[1])  # whatever is shown, where it never changes
    far, near = ((layer(still + size * noise) - given).norm() for size in (1e-1, 1e-3))
    assert near < 0.03 * far
