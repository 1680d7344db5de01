"""Which frames the feature of a frame depends on: what a predictor of later frames has to know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vidssl
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder


def make(folder: Path, **options: Any) -> VideoEncoder:
    """With the path over time opened, as after training."""
    torch.manual_seed(0)
    encoder = vidssl.create_model(f"local-dir:{folder}", load_text=False, **options).double().eval()
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "temporal" in name and ".fc." in name:
                parameter.normal_(std=0.3)
    return encoder


def influence(encoder: VideoEncoder, frames: int = 6) -> Tensor:
    """(frames, frames) bool: entry (i, j) says whether the feature of frame i changes with the pixels of frame j."""
    generator = torch.Generator().manual_seed(1)
    clips = torch.randn(1, 3, frames, 32, 32, generator=generator, dtype=torch.float64)
    moved = clips.repeat(frames, 1, 1, 1, 1)
    moved[torch.arange(frames), :, torch.arange(frames)] += 1
    with torch.no_grad():
        change = encoder(moved).frames - encoder(clips).frames
    return (change.abs().amax(dim=-1) > 1e-9).T


def test_a_frame_of_the_whole_clip_sees_everything(tiny_clip: Path) -> None:
    encoder = make(tiny_clip)
    assert encoder.sees == "clip"
    assert influence(encoder).all()


def test_a_causal_frame_sees_itself_and_the_past(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, causal=True)
    assert encoder.sees == "past"
    assert torch.equal(influence(encoder), torch.ones(6, 6).tril().bool())


def test_an_image_model_sees_one_frame(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, temporal="none")
    assert encoder.sees == "frame"
    assert torch.equal(influence(encoder), torch.eye(6).bool())


def test_chunks_see_nothing_of_each_other_and_are_clips_of_their_own(tiny_clip: Path) -> None:
    encoder, plain = make(tiny_clip, chunk_frames=3), make(tiny_clip)
    assert torch.equal(influence(encoder), torch.block_diag(torch.ones(3, 3), torch.ones(3, 3)).bool())
    clips = torch.randn(2, 3, 6, 32, 32, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    features = encoder(clips, patches=True)
    parts = [plain(clips[:, :, start : start + 3], patches=True) for start in (0, 3)]
    torch.testing.assert_close(features.frames, torch.cat([part.frames for part in parts], dim=1))
    torch.testing.assert_close(features.clip, (parts[0].clip + parts[1].clip) / 2)
    assert features.patches is not None
    torch.testing.assert_close(features.patches[:, 3:], parts[1].patches)


def test_chunks_of_a_convolutional_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    encoder = vidssl.create_model("pytorchvideo/x3d_xs", chunk_frames=2).eval()
    with torch.no_grad():
        assert encoder(torch.randn(1, 3, 4, 64, 64)).frames.shape == (1, 4, 192)
    assert encoder.sees == "clip"
    save_encoder(encoder, tmp_path / "saved")
    assert vidssl.load(tmp_path / "saved").chunk_frames == 2


def test_mistakes_are_named(tiny_clip: Path) -> None:
    with pytest.raises(VidsslError, match="cls_mode='per_frame'"):
        vidssl.create_model(f"local-dir:{tiny_clip}", causal=True, cls_mode="shared")
    with pytest.raises(VidsslError, match="multiple of chunk_frames=4"):
        make(tiny_clip, chunk_frames=4)(torch.randn(1, 3, 6, 32, 32, dtype=torch.float64))
    with pytest.raises(VidsslError, match="chunk_frames"):
        vidssl.create_model(f"local-dir:{tiny_clip}", chunk_frames=0)
