from __future__ import annotations

import copy

import pytest
import torch

import vidssl
from tests.tiny_clip import tiny_config, trained_and_initial, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.interpolate import interpolate


@pytest.fixture(scope="module")
def ends(tiny_clip) -> tuple[VideoEncoder, VideoEncoder]:
    return trained_and_initial(tiny_clip)


@pytest.fixture(scope="module")
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_every_weight_lies_between(ends, alpha):
    trained, initial = ends
    before = copy.deepcopy([encoder.state_dict() for encoder in ends])
    mixed = interpolate(trained, initial, alpha).state_dict()
    for name, start in initial.state_dict().items():
        end = trained.state_dict()[name]
        expected = alpha * end.double() + (1 - alpha) * start.double()
        torch.testing.assert_close(mixed[name].double(), expected, atol=1e-6, rtol=0)
        if alpha in (0, 1):
            assert torch.equal(mixed[name], end if alpha else start), name
    for encoder, kept in zip(ends, before, strict=True):
        assert all(torch.equal(value, kept[name]) for name, value in encoder.state_dict().items())


@torch.no_grad()
def test_an_image_clip_counts_as_the_start_of_the_video_encoder(ends, tiny_clip, clips):
    """Features, not only weights: at alpha 0 the result is the image model, whatever attention over time had learned."""
    trained, initial = ends
    images = vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none").eval()
    mixed = interpolate(trained, images, 0.0)
    torch.testing.assert_close(mixed(clips).clip, images(clips).clip, atol=1e-6, rtol=0)
    half = interpolate(trained, images, 0.5).state_dict()
    for block in range(2):
        fc = f"temporal.{block}.fc.weight"
        torch.testing.assert_close(half[fc], trained.state_dict()[fc] / 2)
        assert torch.equal(
            half[f"temporal.{block}.qkv.weight"], trained.state_dict()[f"temporal.{block}.qkv.weight"]
        )
    torch.testing.assert_close(half["time_embedding"], trained.state_dict()["time_embedding"] / 2)
    assert half["visual.proj"].equal(interpolate(trained, initial, 0.5).state_dict()["visual.proj"])


def test_what_does_not_fit_is_named(ends, tmp_path):
    trained, initial = ends
    with pytest.raises(VidsslError, match=r"alpha 1\.5: must be in"):
        interpolate(trained, initial, 1.5)
    deeper = write_tiny_clip(tmp_path / "deeper", tiny_config(layers=3))
    with pytest.raises(VidsslError, match=r"keys|unexpected \(temporal\.2"):
        interpolate(trained, _with_text_of(vidssl.create_model(f"local-dir:{deeper}"), trained), 0.5)
    wider = write_tiny_clip(tmp_path / "wider", tiny_config(width=96))
    with pytest.raises(VidsslError, match="of another shape"):
        interpolate(trained, _with_text_of(vidssl.create_model(f"local-dir:{wider}"), trained), 0.5)
    other = write_tiny_clip(tmp_path / "other", seed=1)
    with pytest.raises(VidsslError, match="text towers differ"):
        interpolate(trained, vidssl.create_model(f"local-dir:{other}"), 0.5)
    causal = copy.deepcopy(initial)
    causal.spec = {**initial.spec, "options": {**initial.spec["options"], "causal": True}}
    with pytest.raises(VidsslError, match="causal False and True"):
        interpolate(trained, causal, 0.5)
    joint = copy.deepcopy(initial)
    joint.spec = {**initial.spec, "temporal": "joint"}  # weights of the same names and shapes
    with pytest.raises(VidsslError, match="temporal 'divided' and 'joint'"):
        interpolate(trained, joint, 0.5)


def test_frames_only_cannot_take_attention_over_time(ends, tiny_clip):
    images = vidssl.create_model(f"local-dir:{tiny_clip}", temporal="none")
    with pytest.raises(VidsslError, match=r"unexpected \(temporal\.0"):
        interpolate(images, ends[0], 0.5)


def _with_text_of(encoder: VideoEncoder, other: VideoEncoder) -> VideoEncoder:
    encoder.text = other.text
    return encoder
