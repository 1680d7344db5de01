"""Features of frames with what stands where in the picture: once computed, a head behind them gives what the whole encoder gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from einops import rearrange, reduce
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import vidssl
from tests.tiny_towers import write_tower
from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder
from vidssl.models.temporal.rows import RowNorm, frame_rows
from vidssl.models.temporal.trunk import trunk_digest

TOWERS = ("open_clip", "siglip", "registers", "eva02", "resnet", "convnext")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rows")


def make(folder: Path, kind: str, temporal: str, **options: Any) -> VideoEncoder:
    place = write_tower(folder / kind, kind)
    torch.manual_seed(0)
    encoder = vidssl.create_model(f"local-dir:{place}", temporal=temporal, load_text=False, **options).eval()
    for name, parameter in encoder.named_parameters():
        if "temporal_head.fc" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return encoder


def clips(frames: int = 4, side: int = 32) -> Tensor:
    return torch.randn(2, 3, frames, side, side, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("kind", TOWERS)
@pytest.mark.parametrize("temporal", ["head", "convolutions"])
@torch.no_grad()
def test_what_is_behind_kept_rows_is_the_encoder(folder: Path, kind: str, temporal: str) -> None:
    encoder = make(folder, kind, temporal, head_width=16, head_grid=2)
    image = make(folder, kind, "none")
    rows = image.frame_rows(clips(), 2)  # of the image model, as they are extracted
    whole, kept = encoder(clips()), encoder(rows)
    torch.testing.assert_close(kept.clip, whole.clip, atol=1e-5, rtol=0)
    torch.testing.assert_close(kept.frames, whole.frames, atol=1e-5, rtol=0)
    assert (whole.clip - image(clips()).clip).abs().max() > 1e-2  # the head does something
    assert trunk_digest(encoder) == trunk_digest(image)
    next(iter(image.visual.parameters())).mul_(1.001)
    assert trunk_digest(encoder) != trunk_digest(image)


@pytest.mark.parametrize("kind", ["open_clip", "resnet"])
@pytest.mark.parametrize("temporal", ["head", "convolutions"])
@torch.no_grad()
def test_a_head_alone_is_what_is_added_otherwise(folder: Path, kind: str, temporal: str) -> None:
    alone, added = (
        make(folder, kind, temporal, head_alone=a, head_grid=2, head_width=16) for a in (True, False)
    )
    added.temporal_head.load_state_dict(alone.temporal_head.state_dict())
    image = make(folder, kind, "none")(clips())
    torch.testing.assert_close(added(clips()).frames - image.frames, alone(clips()).frames, atol=1e-5, rtol=0)
    rows = make(folder, kind, "none").frame_rows(clips(), 2)
    torch.testing.assert_close(alone(rows).clip, alone(clips()).clip, atol=1e-5, rtol=0)


def test_a_head_alone_does_not_start_at_zero_and_other_modes_have_none(folder: Path) -> None:
    place = write_tower(folder / "resnet", "resnet")
    features = vidssl.create_model(f"local-dir:{place}", temporal="head", load_text=False, head_alone=True)(
        clips()
    ).clip
    assert (features[0] - features[1]).abs().max() > 1e-4
    with pytest.raises(VidsslError, match="head_alone"):
        vidssl.create_model(f"local-dir:{place}", temporal="none", load_text=False, head_alone=True)


@pytest.mark.parametrize("kind", ["open_clip", "siglip", "convnext", "resnet"])
@torch.no_grad()
def test_a_row_is_the_feature_of_a_frame_and_the_means_of_its_cells(folder: Path, kind: str) -> None:
    encoder = make(folder, kind, "none")
    *_, grid = encoder.maps(clips())
    side = grid.shape[2]
    rows = encoder.frame_rows(clips(), side)
    dim = encoder.embed_dim
    torch.testing.assert_close(rows[..., :dim], encoder(clips()).frames, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        rows[..., dim:], rearrange(grid, "b t h w c -> b t (h w c)"), atol=1e-5, rtol=0
    )
    one = encoder.frame_rows(clips(), 1)[..., dim:]
    torch.testing.assert_close(one, reduce(grid, "b t h w c -> b t c", "mean"), atol=1e-5, rtol=0)
    assert torch.equal(encoder.frame_rows(clips(), 0), rows[..., :dim])
    alone = encoder.frame_rows(clips()[:, :, 2:3], 2)
    torch.testing.assert_close(alone, encoder.frame_rows(clips(), 2)[:, 2:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["open_clip", "registers", "resnet", "convnext"])
@torch.no_grad()
def test_the_grid_can_be_of_an_earlier_layer(folder: Path, kind: str) -> None:
    image = make(folder, kind, "none")
    grids = list(image.maps(clips()))
    dim = image.embed_dim
    for number in (0, len(grids) - 1):
        side = grids[number].shape[2]
        rows = image.frame_rows(clips(), side, number)
        cells = rearrange(grids[number], "b t h w c -> b t (h w c)")
        torch.testing.assert_close(rows[..., dim:], cells, atol=1e-5, rtol=0)
        torch.testing.assert_close(rows[..., :dim], image(clips()).frames, atol=1e-5, rtol=0)
    encoder = make(folder, kind, "convolutions", head_width=16, head_grid=2, head_layer=0)
    kept = encoder(image.frame_rows(clips(), 2, 0))
    torch.testing.assert_close(kept.clip, encoder(clips()).clip, atol=1e-5, rtol=0)
    with pytest.raises(
        VidsslError, match=f"layer {len(grids)}: has {len(grids)} layers .allowed: 0 to {len(grids) - 1}"
    ):
        make(folder, kind, "convolutions", head_grid=2, head_layer=len(grids))


def test_a_clip_can_be_how_much_its_features_move(folder: Path) -> None:
    options = {"head_alone": True, "head_grid": 2, "head_width": 16}
    mean, spread = (make(folder, "resnet", "convolutions", **options, head_pool=p) for p in ("mean", "std"))
    spread.load_state_dict(mean.state_dict())
    found = spread(clips())
    torch.testing.assert_close(found.frames, mean(clips()).frames)
    torch.testing.assert_close(found.clip, found.frames.std(dim=1, correction=0), atol=1e-3, rtol=0)
    still = spread(clips()[:, :, :1])  # of one frame there is nothing that moves, and still a gradient
    still.clip.sum().backward()
    assert still.clip.abs().max() < 2e-3
    assert all(p.grad is None or p.grad.isfinite().all() for p in spread.parameters())
    with pytest.raises(VidsslError, match="head_pool: 'std': is of features of the head alone"):
        make(folder, "resnet", "convolutions", head_pool="std")


def test_cells_are_in_the_order_of_the_picture() -> None:
    maps = torch.arange(16.0).reshape(1, 1, 4, 4)
    rows = frame_rows(torch.zeros(1, 1, 2), maps, 2)
    assert rows.tolist() == [[[0.0, 0.0, 2.5, 4.5, 10.5, 12.5]]]


def test_a_head_with_a_grid_sees_where_and_one_without_does_not() -> None:
    """Features that are the same in every frame, and a cell that is not: only the grid tells."""
    torch.manual_seed(0)
    from vidssl.models.temporal.modes import temporal_head

    rows = torch.randn(3, 1, 8 + 4 * 5).repeat(1, 6, 1)
    moved = rows.clone()
    moved[:, 3:, 8:13] += 1
    for mode in ("head", "convolutions"):
        head = temporal_head(mode, 8, time_signal=True, causal=False, width=12, cells=20)
        blind = temporal_head(mode, 8, time_signal=True, causal=False, width=12)
        assert head is not None
        assert blind is not None
        for module in (head, blind):
            torch.nn.init.normal_(module.get_parameter("fc.weight"))
        assert (head(moved) - head(rows)).abs().max() > 1e-3
        assert torch.equal(blind(moved[..., :8]), blind(rows[..., :8]))


def test_a_head_without_options_is_what_it_was(folder: Path) -> None:
    names = {name for name, _ in make(folder, "open_clip", "head").named_parameters() if "temporal" in name}
    assert {"temporal_head.norm.weight", "temporal_head.fc.weight"} <= names
    assert not any("enter" in name for name in names)


def test_chunks_are_those_of_the_clip(folder: Path) -> None:
    encoder = make(folder, "convnext", "head", head_width=16, head_grid=2, chunk_frames=2)
    with torch.no_grad():
        whole, kept = encoder(clips()), encoder(encoder.frame_rows(clips(), 2))
    torch.testing.assert_close(kept.clip, whole.clip, atol=1e-5, rtol=0)


def test_what_cannot_be_is_refused(folder: Path) -> None:
    divided = make(folder, "open_clip", "divided")
    for call in (lambda: divided.frame_rows(clips(), 2), lambda: divided(torch.zeros(1, 2, 32))):
        with pytest.raises(VidsslError, match="does not see one frame at a time"):
            call()
    head = make(folder, "open_clip", "head", head_grid=2)
    with pytest.raises(VidsslError, match="rows of 32 numbers a frame: this encoder takes 288"):
        head(torch.zeros(1, 2, 32))
    with pytest.raises(VidsslError, match="head_grid: needs the patches"):
        make(folder, "open_clip", "head", head_grid=2, token_drop=0.5)
    with pytest.raises(VidsslError, match="head_grid"):
        make(folder, "open_clip", "divided", head_grid=2)


def normed(norm: RowNorm, rows: Tensor) -> Tensor:
    parts = [norm.features(rows[..., : norm.dim])]
    return torch.cat(parts if norm.cells is None else [*parts, norm.cells(rows[..., norm.dim :])], dim=-1)


@pytest.mark.parametrize("cells", [0, 12])
@pytest.mark.parametrize("bias", [True, False])
def test_the_map_of_normed_rows_is_norm_then_map_and_so_are_all_gradients(cells: int, bias: bool) -> None:
    torch.manual_seed(0)
    norm, linear = RowNorm(8, cells).double(), nn.Linear(8 + cells, 5, bias=bias).double()
    for parameter in norm.parameters():
        nn.init.normal_(parameter, mean=1.0)
    learned = [*norm.parameters(), *linear.parameters()]
    rows = torch.randn(3, 4, 8 + cells, dtype=torch.double, requires_grad=True)
    found, wanted = norm.mapped(rows, linear), linear(normed(norm, rows))
    torch.testing.assert_close(found, wanted)
    ours, reference = (torch.autograd.grad(x.square().sum(), [rows, *learned]) for x in (found, wanted))
    torch.testing.assert_close(ours, reference)


def test_no_product_is_made_for_the_gradient_of_rows_that_are_kept() -> None:
    norm, linear = RowNorm(80, 400), nn.Linear(480, 16)
    rows = torch.randn(32, 8, 480)
    product = 2 * 32 * 8 * 480 * 16

    def work(step: Callable[[], Tensor]) -> int:
        with FlopCounterMode(display=False) as counter:
            step().square().mean().backward()
        return counter.get_total_flops()

    assert work(lambda: linear(normed(norm, rows))) >= 3 * product
    assert 2 * product <= work(lambda: norm.mapped(rows, linear)) < 2.1 * product
