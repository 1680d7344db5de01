"""How image towers are shown frames: channels next to each other, and on a CPU few at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from einops import rearrange, reduce
from torch import Tensor, nn

import vidssl
from tests.tiny_towers import write_tower
from vidssl.models.encoder import VideoEncoder
from vidssl.models.towers import frame_average

KINDS = ("resnet", "convnext")


@pytest.fixture(params=KINDS)
def encoder(request: pytest.FixtureRequest, tmp_path: Path) -> VideoEncoder:
    place = write_tower(tmp_path / request.param, request.param)
    return vidssl.create_model(f"local-dir:{place}", temporal="none", load_text=False).eval()


@pytest.fixture
def clips() -> Tensor:
    return torch.randn(3, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0))


def shown(encoder: VideoEncoder) -> list[Tensor]:
    """What its convolutions are given from now on, the first and the last of them alternating; stays filled."""
    given: list[Tensor] = []
    convolutions = [layer for layer in encoder.modules() if isinstance(layer, nn.Conv2d)]
    for layer in (convolutions[0], convolutions[-1]):
        layer.register_forward_hook(lambda _, inputs, output: given.extend((inputs[0], output)))
    return given


@torch.no_grad()
def test_frames_are_laid_out_for_convolutions_and_give_the_same(encoder: VideoEncoder, clips: Tensor) -> None:
    assert isinstance(encoder.visual, nn.Module)
    frames = rearrange(clips, "b c t h w -> (b t) c h w").contiguous()
    plain = reduce(encoder.visual(frames), "(b t) d -> b d", "mean", b=3)
    given = shown(encoder)
    torch.testing.assert_close(encoder(clips).clip, plain, atol=1e-5, rtol=0)
    list(encoder.maps(clips))
    assert len(given) in (8, 12)  # timm goes twice for all layers
    for x in given:
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert not x.is_contiguous() or x.shape[2:] == (1, 1)


def test_one_frame_and_frames_that_learn_are_laid_out_too(encoder: VideoEncoder, clips: Tensor) -> None:
    given = shown(encoder)
    encoder(clips[:1, :, :1])
    encoder(clips).clip.sum().backward()
    assert all(x.is_contiguous(memory_format=torch.channels_last) for x in given)
    weights = [p for p in encoder.parameters() if p.ndim == 4 and p.grad is not None]
    assert weights and all(p.is_contiguous() and p.grad.is_contiguous() for p in weights)  # type: ignore[union-attr]


@torch.no_grad()
def test_few_frames_at_once_give_what_all_give(
    encoder: VideoEncoder, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rows = encoder(clips), encoder.frame_rows(clips, 2)
    given = shown(encoder)
    monkeypatch.setattr(frame_average, "PIXELS", 4 * 32 * 32 + 1)
    torch.testing.assert_close(encoder(clips).frames, whole.frames, atol=1e-5, rtol=0)
    assert [len(x) for x in given[::4]] == [4, 4, 4, 3]
    torch.testing.assert_close(encoder.frame_rows(clips, 2), rows, atol=1e-5, rtol=0)
    monkeypatch.setattr(frame_average, "PIXELS", 1)
    assert encoder(clips).frames.shape == whole.frames.shape


@torch.no_grad()
def test_a_batch_whose_statistics_are_taken_is_shown_whole(
    tmp_path: Path, clips: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = write_tower(tmp_path / "resnet", "resnet")
    encoder = vidssl.create_model(f"local-dir:{place}", temporal="none", load_text=False)
    monkeypatch.setattr(frame_average, "PIXELS", 1)
    given = shown(encoder)
    for training, frames in ((True, 15), (False, 1)):
        given.clear()
        encoder.train(training)
        encoder(clips)
        assert len(given[0]) == frames
    encoder.train()
    for layer in encoder.modules():  # as the training does it with a frozen model
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    given.clear()
    encoder(clips)
    assert len(given[0]) == 1
