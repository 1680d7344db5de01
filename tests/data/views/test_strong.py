"""Strong views against torchvision, clip by clip, and against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import COLOURS, NONE, UNIT, per_clip, smooth_clip, uneven_samples
from vidssl.data.batch import collate_clips
from vidssl.data.rng import Purpose, stream
from vidssl.data.views.draw import draw_view
from vidssl.data.views.render import render_views
from vidssl.data.views.strong import OPERATIONS, strong_

S = 24
STRENGTHS = [-1.0, -0.45, 0.0, 0.3, 0.8, 1.0]


def clips() -> Tensor:
    """(6, 3, 4, S, S) in [0, 1]."""
    return torch.stack([smooth_clip(4, S, S, seed=2 * i).permute(3, 0, 1, 2) / 255 for i in range(6)])


def moved(
    x: Tensor,
    angle: float = 0.0,
    translate: tuple[float, float] = (0, 0),
    shear: tuple[float, float] = (0, 0),
) -> Tensor:
    return tvf.affine(x, angle, list(translate), 1.0, list(shear), InterpolationMode.BILINEAR)  # type: ignore[arg-type]


THEIRS: dict[str, Callable[[Tensor, float], Tensor]] = {
    "identity": lambda x, s: x,
    "brightness": lambda x, s: tvf.adjust_brightness(x, 1 + 0.9 * s),
    "contrast": lambda x, s: tvf.adjust_contrast(x, 1 + 0.9 * s),
    "colour": lambda x, s: tvf.adjust_saturation(x, 1 + 0.9 * s),
    "sharpness": lambda x, s: tvf.adjust_sharpness(x, 1 + 0.9 * s),
    "posterize": lambda x, s: tvf.posterize(x, 8 - round(4 * abs(s))),
    "solarize": lambda x, s: tvf.solarize(x, 1 - abs(s)),
    "autocontrast": lambda x, s: tvf.autocontrast(x),
    "equalize": lambda x, s: tvf.equalize(x),
    "rotate": lambda x, s: moved(x, angle=-30 * s),
    "shear_x": lambda x, s: moved(x, shear=(math.degrees(math.atan(0.3 * s)), 0)),
    "shear_y": lambda x, s: moved(x, shear=(0, math.degrees(math.atan(0.3 * s)))),
}


@pytest.mark.parametrize("name", list(THEIRS))
def test_an_operation_is_torchvisions_on_every_clip_alone(name: str) -> None:
    ours = OPERATIONS[name](clips(), torch.tensor(STRENGTHS))
    theirs = per_clip(clips(), THEIRS[name], STRENGTHS)
    if name in ("posterize", "solarize"):  # jumps: a few pixels may round to the other side
        assert ((ours - theirs).abs() > 1e-5).float().mean() < 1e-3
    else:
        torch.testing.assert_close(ours, theirs, atol=2e-5, rtol=0)
    if name != "identity":
        assert not torch.allclose(ours[5], clips()[5], atol=1e-2)


@pytest.mark.parametrize(("name", "dim"), [("translate_x", 4), ("translate_y", 3)])
def test_translations_move_by_whole_pixels_where_asked(name: str, dim: int) -> None:
    x = clips()
    pixels = 5
    ours = OPERATIONS[name](x.clone(), torch.full((6,), pixels / S / (150 / 331)))
    torch.testing.assert_close(
        ours.narrow(dim, 0, S - pixels), x.narrow(dim, pixels, S - pixels), atol=1e-5, rtol=0
    )
    assert ours.narrow(dim, S - pixels, pixels).abs().max() < 1e-5


@pytest.mark.parametrize(("name", "row"), [("translate_x", 0), ("translate_y", 1)])
def test_translations_by_parts_of_a_pixel_are_bilinear(name: str, row: int) -> None:
    x, strength = clips(), torch.tensor([-1.0, -0.7, -0.013, 0.0, 0.31, 1.0])
    matrix = torch.eye(2, 3).repeat(6, 1, 1)
    matrix[:, row, 2] = 2 * (150 / 331) * strength
    frames = x.flatten(1, 2)
    grid = torch.nn.functional.affine_grid(matrix, list(frames.shape), align_corners=False)
    expected = torch.nn.functional.grid_sample(frames, grid, align_corners=False).view_as(x)
    torch.testing.assert_close(OPERATIONS[name](x, strength), expected, atol=2e-5, rtol=0)
    assert not torch.allclose(OPERATIONS[name](x, strength.flip(0)), expected, atol=0.1)


def test_batched_equals_single_and_a_clip_keeps_its_own_operations() -> None:
    x, generator = clips(), torch.Generator().manual_seed(0)
    operations = torch.randint(len(OPERATIONS), (6, 3), generator=generator)
    strength = torch.rand((6, 3), generator=generator) * 2 - 1
    together = strong_(x.clone(), operations, strength)
    table = list(OPERATIONS.values())
    for row in range(6):
        alone = x[row : row + 1].clone()
        for operation, s in zip(operations[row].tolist(), strength[row], strict=True):
            alone = table[operation](alone, s[None])
        assert torch.equal(together[row], alone[0])
        assert 0 <= alone.min() <= alone.max() <= 1
    assert len({clip.numpy().tobytes() for clip in together}) == 6


def test_draws_cover_all_operations_and_leave_the_others_alone() -> None:
    spec = replace(COLOURS, strong=2, strength=0.6)
    draws = [draw_view(stream(0, Purpose.SPACE, 0, row, 0), spec, 40, 50) for row in range(200)]
    plain = [draw_view(stream(0, Purpose.SPACE, 0, row, 0), COLOURS, 40, 50) for row in range(200)]
    for drawn, without in zip(draws, plain, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(drawn[:-3], without[:-3], strict=True))
        assert (drawn.strong.shape, without.strong.shape) == ((2,), (0,))
    drawn = torch.stack([draw.strong for draw in draws])
    assert torch.bincount(drawn.flatten(), minlength=len(OPERATIONS)).min() > 10
    strengths = torch.stack([draw.strength for draw in draws])
    assert torch.equal(strengths.abs(), torch.full((200, 2), 0.6))
    assert 0.4 < (strengths > 0).float().mean() < 0.6


def test_frames_of_a_clip_share_the_operation() -> None:
    spec = replace(COLOURS, frames=4, strong=3, strength=1.0)
    samples = uneven_samples([spec])
    still = [replace(s, frames=s.frames[:1].expand_as(s.frames)) for s in samples]
    (views,) = render_views(collate_clips(still), [spec], NONE, UNIT)
    assert torch.equal(views, views[:, :, :1].expand_as(views))
    (plain,) = render_views(collate_clips(still), [replace(spec, strong=0)], NONE, UNIT)
    assert not torch.allclose(views, plain, atol=0.05)
