"""Every way to learn of time in every kind of image tower, against open_clip's own forward pass."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange
from torch import Tensor

import vidssl
from tests.tiny_towers import OTHERS, TRANSFORMERS, write_tower
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.temporal.modes import IN_BLOCKS, MODES, ON_FRAMES

PAIRS = [*product(TRANSFORMERS, MODES), *product(OTHERS, [*ON_FRAMES, "none"])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("modes")


def make(folder: Path, kind: str, temporal: str, **options: Any) -> VideoEncoder:
    place = write_tower(folder / kind, kind)
    torch.manual_seed(0)
    return vidssl.create_model(f"local-dir:{place}", temporal=temporal, load_text=False, **options).eval()


def reference(folder: Path, kind: str) -> Any:
    import open_clip

    return open_clip.create_model(f"local-dir:{write_tower(folder / kind, kind)}").eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clips(batch: int = 2, frames: int = 4, side: int = 32) -> Tensor:
    """(B, 3, T, S, S) of noise whose frames differ in colour, left and right."""
    halves = noise(batch, 3, frames, 1, 2, seed=7).repeat_interleave(side // 2, dim=4)
    return noise(batch, 3, frames, side, side) + 2 * halves


def of_images(model: Any, shown: Tensor) -> Tensor:
    with torch.no_grad():
        features: Tensor = model.encode_image(rearrange(shown, "b c t h w -> (b t) c h w"))
    return rearrange(features, "(b t) d -> b t d", b=len(shown))


def temporal_parameters(encoder: VideoEncoder) -> dict[str, torch.nn.Parameter]:
    return {
        name: parameter
        for name, parameter in encoder.named_parameters()
        if name.startswith(("temporal", "time_embedding"))
    }


def disturb(encoder: VideoEncoder) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in temporal_parameters(encoder).values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


@pytest.mark.parametrize(("kind", "temporal"), PAIRS)
def test_every_mode_starts_as_the_mean_over_frames(kind: str, temporal: str, folder: Path) -> None:
    shown = clips()
    features = make(folder, kind, temporal)(shown)
    expected = of_images(reference(folder, kind), shown)
    assert expected.std() > 0.01
    torch.testing.assert_close(features.frames, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.clip, expected.mean(dim=1), atol=1e-5, rtol=0)


LEARNING = [*product(["open_clip", "siglip", "pe"], [*IN_BLOCKS, *ON_FRAMES]), *product(OTHERS, ON_FRAMES)]


@pytest.mark.parametrize(("kind", "temporal"), LEARNING)
def test_every_temporal_parameter_learns_from_the_first_step_and_ten_make_order_matter(
    kind: str, temporal: str, folder: Path
) -> None:
    encoder = make(folder, kind, temporal)
    shown, target = clips(), noise(2, encoder.embed_dim, seed=1)
    backward = shown.flip(2)
    torch.testing.assert_close(encoder(shown).clip, encoder(backward).clip, atol=1e-5, rtol=0)
    trained = temporal_parameters(encoder)
    optimizer = torch.optim.Adam(trained.values(), lr=1e-2)
    for step in range(10):
        optimizer.zero_grad()
        features = encoder(torch.cat([shown, backward])).clip
        (features - torch.cat([target, -target])).square().sum().backward()  # which asks for the order
        for name, parameter in trained.items():
            assert parameter.grad is not None
            assert bool(parameter.grad.isfinite().all()), (step, name)
            assert bool(parameter.grad.abs().max() > 0), (step, name)
        optimizer.step()
    with torch.no_grad():
        assert (encoder(shown).clip - encoder(backward).clip).abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["open_clip", "siglip", "pe"])
@pytest.mark.parametrize("temporal", [*IN_BLOCKS, "head"])
def test_causal_modes_leak_nothing(kind: str, temporal: str, folder: Path) -> None:
    shown = clips()
    changed = shown.clone()
    changed[:, :, 2] += 1
    for causal in (True, False):
        encoder = make(folder, kind, temporal, causal=causal)
        assert encoder.sees == ("past" if causal else "clip")
        disturb(encoder)
        with torch.no_grad():
            difference = (encoder(changed).frames - encoder(shown).frames).abs().amax(dim=(0, 2))
        assert bool((difference[2:] > 1e-4).all())
        assert bool((difference[:2] == 0).all()) == causal, difference


def test_the_tower_of_adapters_stays_as_it_is(folder: Path) -> None:
    encoder = make(folder, "siglip", "adapter")
    learned = {name for name, parameter in encoder.named_parameters() if parameter.requires_grad}
    assert learned == set(temporal_parameters(encoder))
    assert not any(parameter.requires_grad for parameter in encoder.visual.parameters())  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("side", [24, 48])
def test_other_sizes_are_those_of_the_library(kind: str, side: int, folder: Path) -> None:
    """Positions, learned or rotary, against a tower that the library itself set to that size."""
    shown = clips(1, 2, side)
    encoder = make(folder, kind, "divided")
    model = reference(folder, kind)
    if hasattr(model.visual, "trunk"):
        model.visual.set_input_size(side)
    else:
        from open_clip.model import resize_pos_embed

        state = model.state_dict()
        model.visual.grid_size = (side // 8, side // 8)
        resize_pos_embed(state, model)
        model.visual.positional_embedding = torch.nn.Parameter(state["visual.positional_embedding"])
    expected = of_images(model, shown)
    torch.testing.assert_close(encoder(shown).frames, expected, atol=1e-5, rtol=0)
    resized = make(folder, kind, "none", image_size=side)
    assert resized.image_size == side
    torch.testing.assert_close(resized(shown).frames, expected, atol=1e-5, rtol=0)
    table = "visual.positional_embedding" if kind.startswith("open_clip") else "visual.trunk.pos_embed"
    if table in dict(encoder.named_parameters()):
        encoder(shown).clip.square().sum().backward()
        gradient = encoder.get_parameter(table).grad
        assert gradient is not None
        assert gradient.abs().max() > 0


@pytest.mark.parametrize("kind", ["siglip", "pe", "registers"])
def test_encoders_of_timm_are_read_back(kind: str, folder: Path, tmp_path: Path) -> None:
    from vidssl.models.export import save_encoder

    encoder = make(folder, kind, "joint", causal=True, image_size=48)
    disturb(encoder)
    shown = clips(1, 3, 48)
    again = vidssl.load(save_encoder(encoder, tmp_path / "out"))
    assert torch.equal(again(shown).frames, encoder(shown).frames)
    patches = encoder(shown, patches=True).patches
    assert patches is not None
    assert patches.shape == (1, 3, 6, 6, 64)


@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("temporal", IN_BLOCKS)
def test_towers_without_blocks_are_told_of_a_head(kind: str, temporal: str, folder: Path) -> None:
    with pytest.raises(VidsslError, match=r"cannot be put into this image tower, a .* 'head' or 'none'"):
        make(folder, kind, temporal)


@pytest.mark.parametrize(
    ("kind", "temporal", "options"),
    [
        ("siglip", "none", {"causal": True}),
        ("siglip", "joint", {"cls_mode": "shared"}),
        ("siglip", "adapter", {"time_signal": False}),
        ("open_clip", "head", {"max_frames": 4}),
        ("open_clip", "convolutions", {"causal": True}),
        ("convnext", "head", {"token_drop": 0.5}),
        ("convnext", "none", {"chunk_frames": 2}),
        ("resnet", "head", {"activation_checkpointing": True}),
    ],
)
def test_options_without_effect_are_named(
    kind: str, temporal: str, options: dict[str, Any], folder: Path
) -> None:
    [(name, value)] = options.items()
    with pytest.raises(VidsslError, match=f"{name}: {value!r}: has no effect on .*temporal|one frame"):
        make(folder, kind, temporal, **options)


def test_a_shared_class_token_is_for_open_clips_own_towers(folder: Path) -> None:
    with pytest.raises(VidsslError, match=r"cls_mode: 'shared': is for open_clip's own"):
        make(folder, "mobileclip", "divided", cls_mode="shared")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "ViT-B-16", "ViT-L-14", "ViT-B-16-SigLIP", "ViT-B-16-SigLIP2", "PE-Core-B-16", "MobileCLIP2-B", "MobileCLIP2-S0",
        "EVA02-B-16", "ViTamin-S", "convnext_base", "RN50",
    ],
)  # fmt: skip
def test_encoders_of_full_size_start_as_the_mean_over_frames(name: str) -> None:
    import open_clip
    from open_clip.model import _build_vision_tower

    config = open_clip.get_model_config(name)
    torch.manual_seed(0)
    visual = _build_vision_tower(
        config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False)
    ).eval()
    size = visual.image_size
    side = size if isinstance(size, int) else size[0]
    shown = clips(1, 2, side)
    with torch.no_grad():
        expected = visual(rearrange(shown, "b c t h w -> (b t) c h w"))
        for temporal in MODES:
            try:
                encoder = vidssl.create_model(name, temporal=temporal, load_text=False).eval()
            except VidsslError:
                assert temporal in IN_BLOCKS
                assert name in ("MobileCLIP2-S0", "convnext_base", "RN50")
                continue
            encoder.visual.load_state_dict(visual.state_dict())  # type: ignore[union-attr]
            difference = (encoder(shown).clip[0] - expected.mean(dim=0)).abs().max()
            print(f"{name} {temporal} {difference:.1e} of {expected.abs().max():.2g}")
            assert difference < 1e-5 * min(1, float(expected.abs().max()))
