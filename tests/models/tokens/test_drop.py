"""Which patches are left out, and what an encoder makes of the others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from einops import rearrange
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from timm.layers.pos_embed_rel import RelPosMlp
from torch import Tensor, nn

import vidssl
from tests.tiny_towers import TRANSFORMERS, write_tower
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.student import Student
from vidssl.models.temporal.modes import MODES
from vidssl.models.tokens.drop import kept_patches, piece_keys
from vidssl.models.towers.clip import ClipVideoEncoder

ANY = st.integers(-(2**63), 2**63 - 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drop")


def make(folder: Path, kind: str, temporal: str, **options: Any) -> ClipVideoEncoder:
    place = write_tower(folder / kind, kind)
    torch.manual_seed(0)
    encoder = vidssl.create_model(f"local-dir:{place}", temporal=temporal, load_text=False, **options)
    assert isinstance(encoder, ClipVideoEncoder)
    return encoder


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def split_mix(x: int) -> int:
    """SplitMix64 as published (Steele et al. 2014), in Python's integers."""
    mask = 2**64 - 1
    x = (x + 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def test_the_mixer_is_split_mix() -> None:
    assert split_mix(0) == 0xE220A8397B1DCDAF  # first number of the published generator for seed 0


@given(keys=st.lists(ANY, min_size=1, max_size=4), frames=st.integers(1, 5), patches=st.integers(1, 30),
       drop=st.floats(0, 0.95), tubes=st.booleans())  # fmt: skip
def test_what_is_kept_is_a_draw_of_the_key_alone(
    keys: list[int], frames: int, patches: int, drop: float, tubes: bool
) -> None:
    kept = kept_patches(torch.tensor(keys), frames, patches, drop, tubes=tubes)
    count = max(1, round((1 - drop) * patches))
    assert kept.shape == (len(keys), frames, count)
    for row, key in enumerate(keys):
        for frame in range(frames):
            cells = [(0 if tubes else frame) * patches + place for place in range(patches)]
            scores = [signed(split_mix(split_mix(key % 2**64) ^ cell)) for cell in cells]
            expected = sorted(sorted(range(patches), key=scores.__getitem__)[:count])
            assert kept[row, frame].tolist() == expected


def test_every_cell_is_as_likely_as_any_other() -> None:
    """Of 4,000 consecutive keys, which is what pieces of clips have: marginals, and pairs of cells in two frames."""
    keys, frames, patches = torch.arange(4000), 3, 10
    kept = kept_patches(keys, frames, patches, 0.8, tubes=False)
    here = torch.zeros(len(keys), frames, patches).scatter_(2, kept, 1.0)
    counts = here.sum(dim=0)
    # 2 of 10 in a frame: cells of a frame are not independent, so each frame's statistic is scaled by (N - 1) / (N - k).
    scale = (patches - 1) / (patches - 2)
    for frame in counts.numpy():
        assert chisquare(frame * 1.0).statistic * scale < 27.9  # 0.999 quantile with 9 degrees of freedom
    pairs = torch.einsum("np,nq->pq", here[:, 0], here[:, 1])
    assert (pairs / len(keys) - 0.04).abs().max() < 0.015
    tubes = kept_patches(keys, frames, patches, 0.8, tubes=True)
    assert bool((tubes == tubes[:, :1]).all())
    assert not bool((kept == kept[:, :1]).all())


class Keep(nn.Module):
    """What stands for the patch dropout of the library, and keeps given patches."""

    def __init__(self, keep: Tensor, prefix: int, returns_indices: bool) -> None:
        super().__init__()
        self.keep, self.prefix, self.returns_indices = keep, prefix, returns_indices

    def forward(self, x: Tensor) -> Any:
        rows = torch.arange(len(x))[:, None]
        x = torch.cat([x[:, : self.prefix], x[:, self.prefix :][rows, self.keep]], dim=1)
        return (x, self.keep) if self.returns_indices else x


def library(encoder: ClipVideoEncoder, clips: Tensor, keep: Tensor) -> Tensor:
    """Features of frames by the tower's own forward pass with its own place for patch dropout."""
    visual: Any = copy.deepcopy(encoder.visual)
    rows = rearrange(keep, "b t k -> (b t) k")
    if hasattr(visual, "trunk") and type(visual.trunk).__name__ == "VisionTransformerRelPos":
        frames = _biased(visual, rearrange(clips, "b c t h w -> (b t) c h w"), rows)
        return rearrange(frames, "(b t) d -> b t d", b=len(clips))
    if hasattr(visual, "trunk"):
        trunk = visual.trunk
        trunk.patch_drop = Keep(rows, trunk.num_prefix_tokens, type(trunk).__name__ == "Eva")
    else:
        visual.patch_dropout = Keep(rows, 1, False)
    with torch.no_grad():
        frames: Tensor = visual(rearrange(clips, "b c t h w -> (b t) c h w"))
    return rearrange(frames, "(b t) d -> b t d", b=len(clips))


def _biased(visual: Any, images: Tensor, keep: Tensor) -> Tensor:
    """The same where the library has no such place: image by image, with tokens and biases of the kept patches alone."""
    trunk, embed = visual.trunk, visual.trunk.patch_embed.forward
    networks = [m for m in trunk.modules() if isinstance(m, RelPosMlp)]
    biases = [network.get_bias for network in networks]
    found = []
    for image, kept in zip(images, keep, strict=True):
        rows = torch.cat([torch.arange(trunk.num_prefix_tokens), kept + trunk.num_prefix_tokens])
        trunk.patch_embed.forward = lambda x, kept=kept: embed(x)[:, kept]
        for network, bias in zip(networks, biases, strict=True):
            network.get_bias = lambda bias=bias, rows=rows: bias()[:, :, rows][:, :, :, rows]
        with torch.no_grad():
            found.append(visual(image[None]))
    return torch.cat(found)


@pytest.mark.parametrize("kind", TRANSFORMERS)
@pytest.mark.parametrize("temporal", ["divided", "joint", "adapter", "none"])
def test_the_start_is_the_librarys_on_what_is_kept(kind: str, temporal: str, folder: Path) -> None:
    encoder = make(folder, kind, temporal, token_drop=0.7).eval()
    clips, keys = noise(2, 3, 3, 32, 32), torch.tensor([5, -9])
    keep = kept_patches(keys, 3, 16, 0.7, tubes=temporal in ("divided", "adapter"))
    assert keep.shape[2] == 5
    with torch.no_grad():
        dropped, whole = encoder(clips, keys=keys), encoder(clips)
    expected = library(encoder, clips, keep)
    torch.testing.assert_close(dropped.frames, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(dropped.clip, expected.mean(dim=1), atol=1e-5, rtol=0)
    assert (dropped.frames - whole.frames).abs().max() > 1e-4  # and without keys nothing is left out
    every = torch.arange(16).expand(2, 3, -1)
    torch.testing.assert_close(whole.frames, library(encoder, clips, every), atol=1e-5, rtol=0)


@pytest.mark.parametrize("temporal", MODES)
def test_a_clip_is_the_same_in_any_batch_and_piece(temporal: str, folder: Path) -> None:
    encoder = make(folder, "open_clip", temporal, token_drop=0.5)
    clips, keys = noise(4, 3, 3, 32, 32), torch.tensor([1, 2, 3, 4])
    order = torch.tensor([2, 0, 3, 1])
    whole, moved = encoder(clips, keys=keys).clip, encoder(clips[order], keys=keys[order]).clip
    torch.testing.assert_close(moved, whole[order], atol=1e-6, rtol=0)
    assert (encoder(clips, keys=keys + 1).clip - whole).abs().max() > 1e-4
    views = [clips, clips.flip(4), clips[:, :, :2, :16, :16]]
    drawn = [keys, keys + 10, keys + 20]
    gradients = []
    for pieces in (1, 3):
        student = Student(encoder, {}, micro_batches=pieces)
        student.zero_grad()
        features = student(views, drawn).features
        sum(view.clip.square().sum() for view in features).backward()  # type: ignore[union-attr]
        gradients.append({name: x.grad for name, x in encoder.named_parameters() if x.requires_grad})
    torch.testing.assert_close(features[0].clip, whole, atol=1e-6, rtol=0)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


def test_chunks_of_a_clip_have_draws_of_their_own(folder: Path) -> None:
    encoder = make(folder, "open_clip", "joint", token_drop=0.5, chunk_frames=2).eval()
    half = noise(1, 3, 2, 32, 32)
    frames = encoder(torch.cat([half, half], dim=2), keys=torch.tensor([3])).frames
    assert (frames[:, :2] - frames[:, 2:]).abs().max() > 1e-4
    assert piece_keys(torch.tensor([3, 7]), 2).tolist() == [3, 4, 7, 8]


def test_a_rate_of_zero_leaves_nothing_out(folder: Path) -> None:
    encoder: VideoEncoder = make(folder, "siglip", "joint")
    clips = noise(1, 3, 2, 32, 32)
    assert torch.equal(encoder(clips, keys=torch.tensor([1])).clip, encoder(clips).clip)


@pytest.mark.parametrize("value", [0.96, -0.1, 1, True, "0.5", float("nan")])
def test_rates_outside_are_named(value: Any, folder: Path) -> None:
    with pytest.raises(VidsslError, match=r"token_drop: .*: must be a number from 0 to 0.95"):
        make(folder, "siglip", "joint", token_drop=value)


def test_patches_cannot_be_had_where_some_are_left_out(folder: Path) -> None:
    encoder = make(folder, "siglip", "joint", token_drop=0.5)
    with pytest.raises(VidsslError, match="patches: cannot be returned"):
        encoder(noise(1, 3, 2, 32, 32), patches=True, keys=torch.tensor([1]))
    assert encoder(noise(1, 3, 2, 32, 32), patches=True).patches is not None


def test_keys_of_the_clips_of_a_batch_differ(sprites: Path) -> None:
    from vidssl.data.dataset import ClipDataset
    from vidssl.data.manifest.manifest import VideoIndex
    from vidssl.data.views.spec import ViewSpec

    dataset = ClipDataset(
        VideoIndex.read(sprites / "train"), [ViewSpec("global", count=2, frames=2, size=32, seconds=0.5)]
    )
    keys = [[int(draw[-1]) for draw in dataset[epoch, index].draws] for epoch in (0, 1) for index in (0, 1)]
    assert len(set(np.ravel(keys))) == 8
    assert keys[0] == [int(draw[-1]) for draw in dataset[0, 0].draws]
