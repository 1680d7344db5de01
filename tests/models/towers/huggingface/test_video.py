"""Video models of transformers against transformers itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

import vidssl
from tests.models.towers.huggingface.tiny import full, noise, tiny
from vidssl.errors import VidsslError
from vidssl.models.encoder import ClipFeatures, VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.models.patches import PatchFeatures

MODELS = [
    "VideoMAEModel",
    "VideoMAEForPreTraining",
    "VideoMAEForVideoClassification",
    "TimesformerModel",
    "TimesformerForVideoClassification",
    "VivitModel",
    "VivitForVideoClassification",
    "VJEPA2Model",
    "VJEPA2ForVideoClassification",
    "XCLIPModel",
]


@pytest.fixture
def clips() -> Tensor:
    return noise(2, 3, 4, 16, 16)


@torch.no_grad()
def theirs(model: object, clips: Tensor, tubelet: int, patch: int) -> tuple[Tensor, Tensor]:
    """The feature of the clip and the tokens (B, T', h, w, W) as transformers computes them."""
    t, h = clips.shape[2] // tubelet, clips.shape[3] // patch
    frames = rearrange(clips, "b c t h w -> b t c h w")
    name = type(model).__name__
    base = getattr(model, getattr(model, "base_model_prefix"), model)  # noqa: B009
    if name.startswith("XCLIP"):
        output = base.get_video_features(frames)
        tokens = base.vision_model.post_layernorm(output.last_hidden_state)[:, 1:]
        return output.pooler_output, rearrange(tokens, "(b t) (h w) d -> b t h w d", t=t, h=h)
    if name.startswith("VJEPA2"):
        tokens = base.get_vision_features(frames)
        return tokens.mean(dim=1), rearrange(tokens, "b (t h w) d -> b t h w d", t=t, h=h)
    tokens = base(frames).last_hidden_state
    if name.startswith("VideoMAE"):
        clip = tokens.mean(dim=1)
        norm = getattr(model, "fc_norm", None)
        return (clip if norm is None else norm(clip)), rearrange(tokens, "b (t h w) d -> b t h w d", t=t, h=h)
    if name.startswith("Timesformer"):
        return tokens[:, 0], rearrange(tokens[:, 1:], "b (h w t) d -> b t h w d", t=t, h=h)
    return tokens[:, 0], rearrange(tokens[:, 1:], "b (t h w) d -> b t h w d", t=t, h=h)


@torch.no_grad()
def ours(encoder: VideoEncoder, clips: Tensor) -> ClipFeatures:
    found: ClipFeatures = encoder(clips, patches=True)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_features_are_those_of_transformers(name: str, tmp_path: Path, clips: Tensor) -> None:
    model = tiny(name, tmp_path / "theirs")
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}/theirs")
    features = ours(encoder, clips)
    clip, tokens = theirs(model, clips, encoder.time_stride, 8)
    torch.testing.assert_close(features.clip, clip, atol=1e-5, rtol=0)
    assert features.patches is not None
    torch.testing.assert_close(features.patches, tokens, atol=1e-5, rtol=0)
    assert features.frames.shape == (2, tokens.shape[1], encoder.embed_dim)
    assert (encoder.width, encoder.image_size) == (24, 16)
    assert encoder.time_stride == (1 if name.startswith(("Timesformer", "XCLIP")) else 2)
    *_, last = encoder.maps(clips)
    torch.testing.assert_close(last, features.patches)
    again = vidssl.load(save_encoder(encoder, tmp_path / "ours"))
    assert torch.equal(again(clips).clip, encoder(clips).clip)
    assert torch.equal(vidssl.load_encoder(tmp_path / "theirs")(clips).clip, encoder(clips).clip)
    start = vidssl.create_model(f"transformers/{tmp_path}/theirs", str(tmp_path / "ours")).eval()
    assert torch.equal(start(clips).clip, encoder(clips).clip)


def test_clips_of_another_length_or_size_are_refused(tmp_path: Path) -> None:
    tiny("VideoMAEModel", tmp_path / "mae")
    tiny("VJEPA2Model", tmp_path / "jepa")
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}/mae")
    assert encoder.spec["max_frames"] == 4
    with pytest.raises(VidsslError, match=r"clips of 8 frames: the network was made for 4 .*chunk_frames=4"):
        encoder(noise(1, 3, 8, 16, 16))
    with pytest.raises(VidsslError, match="clips of 8x16 pixels: the network was made for 16x16"):
        encoder(noise(1, 3, 4, 8, 16))
    pieces = vidssl.create_model(f"transformers/{tmp_path}/mae", chunk_frames=4).eval()
    clips = noise(1, 3, 8, 16, 16)
    frames = torch.cat([encoder(piece).frames for piece in clips.split(4, dim=2)], dim=1)
    torch.testing.assert_close(pieces(clips).frames, frames)
    jepa = vidssl.load_encoder(f"transformers/{tmp_path}/jepa")
    assert jepa(clips).frames.shape == (1, 4, 24)
    with pytest.raises(VidsslError, match=r"3 frame\(s\): must be a multiple of 2"):
        jepa(clips[:, :, :3])


def test_rotary_positions_of_another_size_are_those_of_a_network_made_for_it(tmp_path: Path) -> None:
    small = tiny("VJEPA2Model", tmp_path)
    large = type(small)(
        type(small.config)(**{**small.config.to_dict(), "crop_size": 24, "frames_per_clip": 6})
    ).eval()
    large.load_state_dict(small.state_dict())
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    clips = noise(1, 3, 6, 24, 24)
    frames = rearrange(clips, "b c t h w -> b t c h w")
    *_, last = encoder.maps(clips)
    tokens = large.get_vision_features(frames)
    torch.testing.assert_close(rearrange(last, "b t h w d -> b (t h w) d"), tokens, atol=1e-5, rtol=0)
    # Fewer columns: as if the tokens of the last one were masked.
    *_, cut = encoder.maps(clips[..., :16])
    kept = torch.arange(27).reshape(3, 3, 3)[:, :, :2].flatten()
    x = large.encoder.embeddings(frames)[:, kept]
    for layer in large.encoder.layer:
        x = layer(x, kept[None])[0]
    masked = rearrange(large.encoder.layernorm(x), "b (t h w) d -> b t h w d", t=3, h=3)
    torch.testing.assert_close(cut, masked, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "name", ["VideoMAEModel", "TimesformerModel", "VivitModel", "VJEPA2Model", "XCLIPModel"]
)
def test_patch_features_of_frames_of_any_size(name: str, tmp_path: Path) -> None:
    """Positions are interpolated: a pattern that is the same everywhere keeps its features where they do not matter."""
    tiny(name, tmp_path / "theirs")
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}/theirs")
    features = PatchFeatures(encoder, mode="window")
    assert (features.stride, features.frames, features.dim) == (8, 4, 24)
    found = features(torch.rand(2, 3, 20, 37))
    assert found.shape == (2, 24, 3, 5)
    assert bool(found.isfinite().all())
    shown = noise(1, 3, 4, 16, 16)  # the grid it was made for, after others were shown
    [*_, last] = encoder.maps(shown)
    assert torch.equal(last, ours(encoder, shown).patches)  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_features_of_full_size_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    """Sizes of the published base models (V-JEPA 2: ViT-L, shown 16 frames), one in memory at a time."""
    model: Any = full(name, tmp_path)
    config = getattr(model.config, "vision_config", model.config)
    frames = min(getattr(config, "num_frames", 16), 32)
    side = getattr(config, "image_size", 256)
    patch = 32 if name.startswith("XCLIP") else 16
    tubelet = 1 if name.startswith(("Timesformer", "XCLIP")) else 2
    clips = noise(1, 3, frames, side, side)
    clip, tokens = theirs(model, clips, tubelet, patch)
    del model
    encoder = vidssl.load_encoder(f"transformers/{tmp_path}")
    features = ours(encoder, clips)
    assert features.patches is not None
    largest = max(float((a - b).abs().max()) for a, b in ((features.clip, clip), (features.patches, tokens)))
    print(
        f"{name}: {frames} frames, largest difference {largest:.1e}, features up to {float(clip.abs().max()):.2g}"
    )
    assert largest < 1e-5
