"""The CLIP video encoder against open_clip itself and against a plain-loop implementation of its blocks."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from scipy.special import softmax
from torch import Tensor

import vidssl
from tests.tiny_clip import tiny_config, write_tiny_clip
from vidssl.errors import VidsslError
from vidssl.models.temporal.divided import TemporalAttention
from vidssl.models.towers.clip import ClipVideoEncoder

Array = np.ndarray[Any, np.dtype[Any]]


def make(folder: Path, **options: Any) -> ClipVideoEncoder:
    encoder = vidssl.create_model(f"local-dir:{folder}", **options)
    assert isinstance(encoder, ClipVideoEncoder)
    return encoder


def reference(folder: Path) -> Any:
    import open_clip

    return open_clip.create_model(f"local-dir:{folder}").eval()


def random_clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def image_features(model: Any, clips: Tensor) -> Tensor:
    """open_clip's features of every frame, (B, T, D)."""
    with torch.no_grad():
        features: Tensor = model.encode_image(rearrange(clips, "b c t h w -> (b t) c h w"))
    return rearrange(features, "(b t) d -> b t d", b=clips.shape[0])


def disturb_temporal(encoder: ClipVideoEncoder, scale: float = 0.3) -> None:
    """Move the temporal parameters away from their (partly zero) initial values."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if name.startswith("temporal.") or name == "time_embedding":
                parameter.add_(scale * torch.randn(parameter.shape, generator=generator))


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "layer scale": {"ls_init_value": 0.1},
    "average pool": {"pool_type": "avg"},
    "norm after average": {"pool_type": "avg", "final_ln_after_pool": True, "no_ln_pre": True},
    "patch dropout": {"patch_dropout": 0.5},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("temporal", ["divided", "none"])
def test_features_are_those_of_open_clip(
    variant: str, quick_gelu: bool, temporal: str, tmp_path: Path
) -> None:
    config = tiny_config(**VARIANTS[variant]) | {"quick_gelu": quick_gelu}
    folder = write_tiny_clip(tmp_path, config)
    clips = random_clips(2, 3, 3, 32, 32)
    features = make(folder, temporal=temporal, load_text=False).eval()(clips, patches=True)
    expected = image_features(reference(folder), clips)
    torch.testing.assert_close(features.frames, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(features.clip, expected.mean(dim=1), atol=1e-5, rtol=0)
    assert features.patches is not None
    assert features.patches.shape == (2, 3, 4, 4, 64)
    if variant == "average pool":
        pooled = features.patches.mean(dim=(2, 3)) @ reference(folder).visual.proj
        torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=0)


def test_quick_gelu_matters(tmp_path: Path) -> None:
    folders = [
        write_tiny_clip(tmp_path / str(quick), tiny_config() | {"quick_gelu": quick})
        for quick in (False, True)
    ]
    clips = random_clips(1, 3, 2, 32, 32)
    plain, quick = (make(folder, load_text=False)(clips).clip for folder in folders)
    assert (plain - quick).abs().max() > 1e-3


@pytest.mark.parametrize("cls_mode", ["per_frame", "shared"])
@pytest.mark.parametrize("clip_kind", ["one frame", "static"])
def test_both_class_modes_start_as_clip_where_they_must(
    cls_mode: str, clip_kind: str, tiny_clip: Path
) -> None:
    frames = random_clips(2, 3, 1, 32, 32)
    clips = frames if clip_kind == "one frame" else frames.expand(-1, -1, 4, -1, -1)
    features = make(tiny_clip, cls_mode=cls_mode, load_text=False)(clips)
    expected = image_features(reference(tiny_clip), clips)
    torch.testing.assert_close(features.clip, expected.mean(dim=1), atol=1e-5, rtol=0)
    torch.testing.assert_close(features.frames, expected, atol=1e-5, rtol=0)


def test_a_shared_class_token_differs_from_clip_on_a_moving_clip(tiny_clip: Path) -> None:
    clips = random_clips(2, 3, 4, 32, 32)
    features = make(tiny_clip, cls_mode="shared", load_text=False)(clips)
    assert (features.clip - image_features(reference(tiny_clip), clips).mean(dim=1)).abs().max() > 1e-3
    assert features.frames.shape == (2, 4, 32)


@pytest.mark.parametrize("cls_mode", ["per_frame", "shared"])
def test_one_step_leaves_the_image_model_and_makes_order_matter(cls_mode: str, tiny_clip: Path) -> None:
    encoder = make(tiny_clip, cls_mode=cls_mode, load_text=False)
    clips, target = random_clips(2, 3, 4, 32, 32), random_clips(2, 32, seed=1)
    permuted = clips[:, :, [2, 0, 3, 1]]
    before = encoder(clips).clip
    torch.testing.assert_close(encoder(permuted).clip, before, atol=1e-5, rtol=0)
    optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        (encoder(clips).clip - target).square().sum().backward()
        assert encoder.temporal is not None
        for layer in encoder.temporal:
            assert isinstance(layer, TemporalAttention)
            assert layer.fc.weight.grad is not None
            assert layer.fc.weight.grad.abs().max() > 0
            assert layer.qkv.weight.grad is not None
            assert layer.qkv.weight.grad.abs().max() > 0
        optimizer.step()
    with torch.no_grad():
        after = encoder(clips)
        still = encoder.visual(rearrange(clips, "b c t h w -> (b t) c h w"))
        assert (after.clip - rearrange(still, "(b t) d -> b t d", b=2).mean(dim=1)).abs().max() > 1e-4
        assert (encoder(permuted).clip - after.clip).abs().max() > 1e-4


def test_vit_b_16_of_full_size_starts_as_the_mean_of_its_image_features() -> None:
    torch.manual_seed(0)
    encoder = vidssl.create_model("ViT-B-16", load_text=False).eval()
    assert isinstance(encoder, ClipVideoEncoder)
    clips = random_clips(1, 3, 4, 224, 224)
    with torch.no_grad():
        features = encoder(clips, patches=True)
        images = encoder.visual(rearrange(clips, "b c t h w -> (b t) c h w"))
    assert (features.clip - images.mean(dim=0)).abs().max() < 1e-5
    assert features.patches is not None
    assert features.patches.shape == (1, 4, 14, 14, 768)
    assert (encoder.embed_dim, encoder.width, encoder.image_size) == (512, 768, 224)
    assert encoder.mean == pytest.approx((0.48145466, 0.4578275, 0.40821073))
    assert encoder.std == pytest.approx((0.26862954, 0.26130258, 0.27577711))


# --- the blocks once more, in NumPy, one token at a time ------------------------------------------------------------


def numpy_norm(x: Array, norm: Any) -> Array:
    centred = x - x.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + norm.eps)
    return np.asarray(scaled * norm.weight.detach().numpy() + norm.bias.detach().numpy())


def numpy_attention(x: Array, weight: Array, bias: Array, out: Any, heads: int) -> Array:
    """Self-attention of a sequence (S, W), one head and one query at a time."""
    length, width = x.shape
    q, k, v = np.split(x @ weight.T + bias, 3, axis=1)
    result = np.zeros_like(x)
    size = width // heads
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for query in range(length):
            shares = softmax(k[:, part] @ q[query, part] / np.sqrt(size))
            result[query, part] = shares @ v[:, part]
    return np.asarray(result @ out.weight.detach().numpy().T + out.bias.detach().numpy())


def numpy_temporal(x: Array, layer: TemporalAttention) -> Array:
    """Residual along time of (T, S, W)."""
    residual = np.zeros_like(x)
    weight, bias = layer.qkv.weight.detach().numpy(), layer.qkv.bias.detach().numpy()
    output = layer.fc.weight.detach().numpy() + 1e-9 * np.eye(x.shape[2])
    share = (np.arange(len(x)) + 0.5) / len(x)
    waves = 0.25 * 40 ** np.linspace(0, 1, x.shape[2] // 2)  # cycles over the clip, from a quarter to ten
    signal = np.concatenate(
        [np.sin(2 * np.pi * np.outer(share, waves)), np.cos(2 * np.pi * np.outer(share, waves))], 1
    )
    for place in range(x.shape[1]):
        attending = numpy_norm(x[:, place], layer.norm) + layer.time_signal * signal
        attended = numpy_attention(attending, weight, bias, layer.out, layer.heads)
        residual[:, place] = attended @ output.T + layer.fc.bias.detach().numpy()
    return residual


def numpy_spatial(x: Array, block: Any) -> Array:
    """Residual within the frames of (T, S, W)."""
    weight, bias = block.attn.in_proj_weight.detach().numpy(), block.attn.in_proj_bias.detach().numpy()
    return np.stack(
        [
            numpy_attention(
                numpy_norm(frame, block.ln_1), weight, bias, block.attn.out_proj, block.attn.num_heads
            )
            for frame in x
        ]
    )


def numpy_mlp(x: Array, block: Any) -> Array:
    with torch.no_grad():
        hidden = block.mlp.gelu(
            torch.from_numpy(numpy_norm(x, block.ln_2)) @ block.mlp.c_fc.weight.T + block.mlp.c_fc.bias
        )
        return np.asarray((hidden @ block.mlp.c_proj.weight.T + block.mlp.c_proj.bias).numpy())


@pytest.mark.parametrize("cls_mode", ["per_frame", "shared"])
def test_a_block_equals_loops_over_tokens(cls_mode: str, tiny_clip: Path) -> None:
    encoder = make(tiny_clip, cls_mode=cls_mode, load_text=False).double()
    disturb_temporal(encoder)
    x = random_clips(1, 3, 5, 64).double()
    if cls_mode == "shared":
        x[:, :, 0] = x[:, :1, 0]
    assert encoder.temporal is not None
    block, layer = encoder.visual.transformer.resblocks[1], encoder.temporal[1]
    assert isinstance(layer, TemporalAttention)
    y = x[0].numpy().copy()
    if cls_mode == "per_frame":
        y += numpy_temporal(y, layer)
        y += numpy_spatial(y, block)
    else:
        y[:, 1:] += numpy_temporal(y[:, 1:], layer)
        residual = numpy_spatial(y, block)
        frame_cls = y[:, 0] + residual[:, 0]
        residual[:, 0] = residual[:, 0].mean(axis=0)
        y += residual
    y += numpy_mlp(y, block)
    with torch.no_grad():
        out, out_cls = encoder._block(x, 1)
    np.testing.assert_allclose(out[0].numpy(), y, atol=1e-10, rtol=0)
    assert (out_cls is None) == (cls_mode == "per_frame")
    if out_cls is not None:
        np.testing.assert_allclose(
            out_cls[0].numpy(), frame_cls + numpy_mlp(frame_cls, block), atol=1e-10, rtol=0
        )


def test_attention_over_time_sees_only_its_own_place(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, load_text=False)
    disturb_temporal(encoder)
    assert encoder.temporal is not None
    x = random_clips(1, 4, 5, 64)
    changed = x.clone()
    changed[:, 2, 3] += random_clips(64, seed=1)  # a constant would vanish in the norm
    with torch.no_grad():
        difference = (encoder.temporal[0](changed) - encoder.temporal[0](x)).abs().amax(dim=-1)[0]
    assert bool((difference[:, 3] > 1e-5).all())
    assert difference[:, [0, 1, 2, 4]].max() == 0


# --- initial values, other clip lengths and sizes --------------------------------------------------------------------


def test_initial_values_of_the_temporal_path(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, max_frames=5, load_text=False)
    assert encoder.temporal is not None
    assert encoder.time_embedding.shape == (5, 64)
    assert encoder.time_embedding.abs().max() == 0
    for block, layer in zip(encoder.visual.transformer.resblocks, encoder.temporal, strict=True):
        assert isinstance(layer, TemporalAttention)
        assert torch.equal(layer.qkv.weight, block.attn.in_proj_weight)
        assert torch.equal(layer.qkv.bias, block.attn.in_proj_bias)
        assert torch.equal(layer.out.weight, block.attn.out_proj.weight)
        norm: Any = layer.norm
        assert torch.equal(norm.weight, block.ln_1.weight)
        assert norm.weight is not block.ln_1.weight
        assert layer.fc.weight.abs().max() == 0
        assert layer.fc.bias.abs().max() == 0


def test_random_temporal_values_follow_the_seed(tiny_clip: Path) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        encoder = make(tiny_clip, temporal_init="random", load_text=False)
        assert encoder.temporal is not None
        layer = encoder.temporal[0]
        assert isinstance(layer, TemporalAttention)
        return layer.qkv.weight.detach()

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))
    assert weights(1).std().item() == pytest.approx(0.02, rel=0.1)


def test_time_embedding_is_interpolated_linearly(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, max_frames=2, load_text=False)
    with torch.no_grad():
        encoder.time_embedding[1] = 1.0
    same = random_clips(1, 3, 1, 32, 32).expand(-1, -1, 4, -1, -1)
    encoder.visual.ln_pre = torch.nn.Identity()
    tokens, _ = encoder._embed(same)
    # Cell centres of four frames on an axis of two cells lie at -1/4, 1/4, 3/4 and 5/4, clamped at the ends.
    steps = tokens[0, :, 0, 0] - tokens[0, 0, 0, 0]
    torch.testing.assert_close(steps, torch.tensor([0.0, 0.25, 0.75, 1.0]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("side", [16, 24, 48])
def test_other_image_sizes_use_open_clips_interpolated_positions(
    side: int, tiny_clip: Path, tmp_path: Path
) -> None:
    from open_clip.factory import load_checkpoint
    from open_clip.model import CLIP

    clips = random_clips(1, 3, 2, side, side)
    features = make(tiny_clip, load_text=False)(clips, patches=True)
    assert features.patches is not None
    assert features.patches.shape[2:4] == (side // 8, side // 8)
    other = CLIP(**tiny_config(image_size=side)).eval()
    load_checkpoint(other, str(tiny_clip / "open_clip_model.safetensors"))
    torch.testing.assert_close(features.frames, image_features(other, clips), atol=1e-5, rtol=0)
    resized = make(tiny_clip, image_size=side, load_text=False)
    assert resized.image_size == side
    torch.testing.assert_close(resized(clips).frames, features.frames, atol=1e-5, rtol=0)


def test_wide_clips_and_gradients_of_interpolated_tables(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, load_text=False)
    with torch.inference_mode():
        encoder(random_clips(1, 3, 3, 16, 48))
    for _ in range(2):  # a table cached under inference mode, or freed with the first graph, would fail here
        encoder.zero_grad()
        encoder(random_clips(1, 3, 3, 16, 48)).clip.sum().backward()
        assert encoder.visual.positional_embedding.grad.abs().min() > 0
        assert encoder.time_embedding.grad is not None
        assert encoder.time_embedding.grad.abs().max() > 0


# --- behaviour as a module -------------------------------------------------------------------------------------------


def test_activation_checkpointing_changes_nothing(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, load_text=False)
    disturb_temporal(encoder)
    other = make(tiny_clip, load_text=False, activation_checkpointing=True)
    other.load_state_dict(encoder.state_dict())
    gradients = []
    for model in (encoder, other):
        model(random_clips(2, 3, 3, 32, 32)).clip.square().sum().backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-5)


def test_text_tower_is_beside_the_module(tiny_clip: Path) -> None:
    encoder = make(tiny_clip)
    assert encoder.text is not None
    assert not any("token_embedding" in name for name in encoder.state_dict())
    numbers = {id(parameter) for parameter in encoder.parameters()}
    assert not any(id(parameter) in numbers for parameter in encoder.text.tower.parameters())
    twin = copy.deepcopy(encoder)
    assert twin.text is encoder.text
    assert twin.visual.proj is not encoder.visual.proj
    encoder.double()
    assert encoder.text.encode(["a"]).dtype == torch.float32
    encoder.to("meta")  # weights go, the shared text tower stays usable
    assert encoder.text.device.type == "cpu"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_text_tower_moves_along(tiny_clip: Path) -> None:
    encoder = torch.nn.Sequential(make(tiny_clip)).to("cuda")[0]
    assert isinstance(encoder, ClipVideoEncoder)
    assert encoder.text is not None
    assert encoder.text.encode(["a"]).device.type == "cuda"


def test_runs_under_autocast(tiny_clip: Path) -> None:
    encoder = make(tiny_clip, load_text=False)
    clips = random_clips(2, 3, 4, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = encoder(clips).clip
    assert torch.nn.functional.cosine_similarity(low.float(), encoder(clips).clip).min() > 0.999


@pytest.mark.parametrize(
    ("clips", "words"),
    [
        (torch.zeros(2, 3, 32, 32), "(B, 3, T, H, W)"),
        (torch.zeros(2, 4, 3, 32, 32), "before the channels"),
        (torch.zeros(2, 3, 0, 32, 32), "at least one frame"),
        (torch.zeros(2, 3, 4, 30, 32), "multiples of 8"),
        (torch.zeros(2, 3, 4, 0, 32), "multiples of 8"),
        (torch.zeros(2, 3, 4, 32, 32, dtype=torch.uint8), "floating point"),
    ],
)
def test_wrong_clips_are_named(clips: Tensor, words: str, tiny_clip: Path) -> None:
    with pytest.raises(VidsslError, match="encoder: clips") as error:
        make(tiny_clip, load_text=False)(clips)
    assert words in str(error.value)


def test_the_time_signal_tells_the_order_of_frames_once_the_output_map_is_open(tiny_clip):
    clips = torch.randn(2, 3, 4, 32, 32)
    for time_signal in (False, True):
        encoder = vidssl.create_model(f"local-dir:{tiny_clip}", time_signal=time_signal).eval()
        start = encoder(clips).clip
        torch.testing.assert_close(start, encoder(clips.flip(2)).clip)
        for layer in encoder.temporal:
            torch.nn.init.normal_(layer.fc.weight, std=0.1)
        difference = (encoder(clips).clip - encoder(clips.flip(2)).clip).abs().max()
        assert (difference > 1e-3) == time_signal
