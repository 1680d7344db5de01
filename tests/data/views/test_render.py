from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from vidssl.data.batch import ClipBatch, ClipSample, collate_clips, stack_draws
from vidssl.data.clips import ClipSpec
from vidssl.data.rng import Purpose, stream
from vidssl.data.views import colour
from vidssl.data.views import render as views
from vidssl.data.views.crop import crop_resize, resize_short_side, squash
from vidssl.data.views.draw import ViewDraw, draw_view
from vidssl.data.views.evaluation import EvalSpec, eval_box, render_eval_views
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec, expand_views
from vidssl.errors import VidsslError

NONE, UNIT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
STRONG = ViewSpec(
    "strong", 1, 3, size=32, jitter=(0.4, 0.4, 0.4, 0.2), jitter_p=0.8, gray_p=0.3, blur_p=0.5, solarize_p=0.3
)
OPERATIONS: list[Callable[[Tensor, float], Tensor]] = [
    tvf.adjust_brightness,
    tvf.adjust_contrast,
    tvf.adjust_saturation,
    tvf.adjust_hue,
]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def smooth_clip(num: int, height: int, width: int, seed: int = 0) -> Tensor:
    """(N, H, W, 3) uint8 with structure at several scales, as in a photograph."""
    coarse = noise(num, 3, max(2, height // 16), max(2, width // 16), seed=seed).float()
    detail = noise(num, 3, height, width, seed=seed + 1).float()
    big = tvf.resize(coarse, [height, width], antialias=False)
    mixed: Tensor = 0.9 * big + 0.1 * detail
    return mixed.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def sample(frames: Tensor, specs: list[ViewSpec], row: int, seed: int = 0) -> ClipSample:
    """A sample whose draws depend on `row` only."""
    height, width = frames.shape[1:3]
    rngs = [stream(seed, Purpose.SPACE, 0, row, number) for number in range(len(expand_views(specs)))]
    index = [
        np.sort(rng.integers(0, len(frames), spec.frames))
        for rng, spec in zip(rngs, expand_views(specs), strict=True)
    ]
    return ClipSample(
        frames=frames,
        index=[torch.from_numpy(i) for i in index],
        times=[torch.from_numpy(i / 25).float() for i in index],
        video_id=row,
        draws=[
            draw_view(rng, spec, height, width) for rng, spec in zip(rngs, expand_views(specs), strict=True)
        ],
        failures=[],
    )


def uneven_samples(specs: list[ViewSpec], seed: int = 0) -> list[ClipSample]:
    sizes = [(4, 40, 56), (6, 64, 48), (3, 33, 91), (5, 50, 50), (4, 80, 45), (2, 37, 37)]
    return [sample(smooth_clip(*size, seed=row), specs, row, seed) for row, size in enumerate(sizes)]


def one_by_one(batch: ClipBatch, spec: ViewSpec, view: int = 0) -> Tensor:
    """What torchvision makes of every clip alone, with the numbers of its draw."""
    clips = []
    for row in range(len(batch)):
        draw = ViewDraw(*(field[row] for field in batch.draws[view]))
        top, left, height, width = draw.box.tolist()
        x = batch.frames[row, batch.index[view][row]].permute(0, 3, 1, 2)
        x = tvf.to_dtype(tvf.crop(x, top, left, height, width), torch.float32, scale=True)
        x = tvf.resize(x, [spec.size, spec.size], antialias=False)
        x = tvf.horizontal_flip(x) if draw.flip else x
        for number in draw.order.tolist() if draw.jitter else []:
            x = OPERATIONS[number](x, float(draw.factors[number]))
        x = tvf.rgb_to_grayscale(x, 3) if draw.gray else x
        if draw.sigma > 0:
            x = tvf.gaussian_blur(x, [spec.blur_kernel] * 2, [float(draw.sigma)] * 2)
        x = tvf.solarize(x, 0.5) if draw.solarize else x
        clips.append(x.transpose(0, 1))
    return torch.stack(clips)


def per_clip(clips: Tensor, operation: Callable[[Tensor, float], Tensor], factors: list[float]) -> Tensor:
    """Apply a torchvision operation to every clip (3, T, H, W) of a batch alone."""
    return torch.stack(
        [operation(clip.transpose(0, 1), f).transpose(0, 1) for clip, f in zip(clips, factors, strict=True)]
    )


# --- single operations against torchvision -----------------------------------------------------------------------


@pytest.mark.parametrize("operation", [colour.BRIGHTNESS, colour.CONTRAST, colour.SATURATION])
def test_blends_equal_torchvision(operation: int) -> None:
    clips = noise(5, 3, 2, 17, 23).float() / 255
    factors = [0.0, 0.6, 1.0, 1.3, 2.5]
    steps = colour.blend_coefficients(torch.full((5,), operation), torch.tensor(factors))
    ours = colour.blend_(clips.clone(), steps)
    theirs = per_clip(clips, OPERATIONS[operation], factors)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert (ours - per_clip(clips, OPERATIONS[operation], factors[::-1])).abs().max() > 0.05


def test_hue_equals_torchvision() -> None:
    clips = noise(6, 3, 2, 17, 23).float() / 255
    clips[0, :, 0, 0] = 0.5  # grey pixels have no hue
    clips[1, :, 0, 0] = 0.0
    shifts = [0.1, -0.5, 0.5, -0.07, 0.33, 0.0]
    ours = colour.shift_hue_(clips.clone(), torch.tensor(shifts))
    torch.testing.assert_close(ours, per_clip(clips, tvf.adjust_hue, shifts), atol=2e-3, rtol=0)
    assert (ours - clips).abs().amax((1, 2, 3, 4))[:5].min() > 0.1


def test_gray_and_solarize_equal_torchvision() -> None:
    clips = noise(2, 3, 2, 9, 9).float() / 255
    frames = clips.transpose(1, 2)
    torch.testing.assert_close(
        colour.to_gray(clips), tvf.rgb_to_grayscale(frames, 3).transpose(1, 2), atol=1e-5, rtol=0
    )
    assert torch.equal(colour.solarize(clips), tvf.solarize(frames, 0.5).transpose(1, 2))


@pytest.mark.parametrize(("kernel_size", "size"), [(3, 9), (23, 40), (9, 31)])
def test_blur_equals_torchvision(kernel_size: int, size: int) -> None:
    clips = noise(4, 3, 2, size, size).float() / 255
    sigmas = [0.1, 0.8, 1.4, 2.0]
    ours = colour.gaussian_blur(clips, torch.tensor(sigmas), kernel_size)
    theirs = per_clip(clips, lambda x, s: tvf.gaussian_blur(x, [kernel_size] * 2, [s] * 2), sigmas)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_exact_mean_is_the_mean() -> None:
    gray = noise(3, 2, 31, 57).float() / 255
    expected = gray.double().mean((-2, -1), keepdim=True)
    torch.testing.assert_close(colour.frame_mean(gray).double(), expected, atol=1e-6, rtol=0)


@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(2, 24),
    st.booleans(),
    st.integers(0, 2**31),
    st.data(),
)
@settings(max_examples=25, deadline=None)
def test_crop_resize_flip_equals_torchvision(
    height: int, width: int, size: int, flip: bool, seed: int, data: st.DataObject
) -> None:
    top, left = data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))
    frames = noise(1, 2, top + height + 3, left + width + 4, 3, seed=seed)
    box = torch.tensor([[top, left, height, width]])
    ours = crop_resize(
        frames, torch.zeros(1, dtype=torch.long), torch.tensor([[1, 0]]), box, torch.tensor([flip]), size
    )
    crop = tvf.crop(frames[0, [1, 0]].permute(0, 3, 1, 2), top, left, height, width).float()
    theirs = tvf.resize(crop, [size, size], antialias=False)
    theirs = tvf.horizontal_flip(theirs) if flip else theirs
    torch.testing.assert_close(ours[0].transpose(0, 1) / 255, theirs / 255, atol=1e-4, rtol=0)


def test_a_box_of_the_output_size_is_copied_exactly() -> None:
    frames = noise(2, 3, 37, 51, 3)
    box = torch.tensor([[3, 5, 32, 32], [0, 19, 32, 32]])
    index = torch.tensor([[0, 2], [1, 1]])
    ours = crop_resize(frames, torch.arange(2), index, box, torch.tensor([False, True]), 32)
    assert torch.equal(ours[0].permute(1, 2, 3, 0).to(torch.uint8), frames[0, [0, 2], 3:35, 5:37])
    assert torch.equal(ours[1].permute(1, 2, 3, 0).to(torch.uint8), frames[1, [1, 1], :32, 19:51].flip(2))


# --- whole views ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_views_equal_torchvision_applied_to_every_clip_alone(seed: int) -> None:
    batch = collate_clips(uneven_samples([STRONG], seed))
    (ours,) = render_views(batch, [STRONG], NONE, UNIT)
    theirs = one_by_one(batch, STRONG)
    # Solarisation jumps at one half: leave out pixels that rounding may put on the other side.
    settled = ~batch.draws[0].solarize.view(-1, 1, 1, 1, 1) | ((theirs - 0.5).abs() > 1e-4)
    assert ours.is_contiguous()
    assert ((ours - theirs).abs() * settled).max() < 1e-4
    assert settled.float().mean() > 0.99


def test_every_order_of_the_colours_is_honoured() -> None:
    spec = replace(STRONG, jitter_p=1.0, gray_p=0.0, blur_p=0.0, solarize_p=0.0)
    samples = [sample(smooth_clip(3, 40, 40, seed=1), [spec], 0) for _ in range(24)]
    orders = list(permutations(range(4)))
    factors = torch.tensor([1.35, 0.65, 1.4, 0.15])
    samples = [
        replace(s, draws=[s.draws[0]._replace(order=torch.tensor(order), factors=factors)])
        for s, order in zip(samples, orders, strict=True)
    ]
    batch = collate_clips(samples)
    (ours,) = render_views(batch, [spec], NONE, UNIT)
    torch.testing.assert_close(ours, one_by_one(batch, spec), atol=1e-4, rtol=0)
    assert len({clip.numpy().tobytes() for clip in ours}) > 12  # the order does matter


def test_normalisation_comes_last() -> None:
    batch = collate_clips(uneven_samples([STRONG]))
    (plain,) = render_views(batch, [STRONG], NONE, UNIT)
    (ours,) = render_views(batch, [STRONG], CLIP_MEAN, CLIP_STD)
    assert plain.min() >= 0
    assert plain.max() <= 1
    theirs = tvf.normalize(plain.transpose(1, 2), list(CLIP_MEAN), list(CLIP_STD)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_a_view_does_not_depend_on_its_batch_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [STRONG, replace(STRONG, name="local", count=2, frames=2, size=20)]
    samples = uneven_samples(specs)
    together = render_views(collate_clips(samples), specs, CLIP_MEAN, CLIP_STD)
    for rows in ([0], [3], [5, 2], [4, 1, 0], [0, 1, 2, 3, 4, 5, 0, 3]):
        apart = render_views(collate_clips([samples[row] for row in rows]), specs, CLIP_MEAN, CLIP_STD)
        for one, all_ in zip(apart, together, strict=True):
            assert torch.equal(one, all_[rows])
    monkeypatch.setattr(views, "CHUNK_BYTES", {"cpu": 1, "device": 1})
    piecewise = render_views(collate_clips(samples), specs, CLIP_MEAN, CLIP_STD)
    assert all(torch.equal(a, b) for a, b in zip(piecewise, together, strict=True))


def test_padding_is_never_read() -> None:
    samples = uneven_samples([STRONG])
    batch = collate_clips(samples)
    dirty = torch.full_like(batch.frames, 255)
    for row, one in enumerate(samples):
        n, h, w, _ = one.frames.shape
        dirty[row, :n, :h, :w] = one.frames
    assert not torch.equal(dirty, batch.frames)
    clean = render_views(batch, [STRONG], NONE, UNIT)
    assert torch.equal(clean[0], render_views(replace(batch, frames=dirty), [STRONG], NONE, UNIT)[0])
    spec = EvalSpec(ClipSpec(3, stride=1), size=24, crops=3)
    for a, b in zip(
        render_eval_views(batch, spec, NONE, UNIT),
        render_eval_views(replace(batch, frames=dirty), spec, NONE, UNIT),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_static_clip_stays_static_and_a_moving_one_does_not() -> None:
    spec = replace(STRONG, frames=6)
    still = [sample(smooth_clip(1, 40, 50, seed=r).expand(6, -1, -1, -1), [spec], r) for r in range(12)]
    (clips,) = render_views(collate_clips(still), [spec], CLIP_MEAN, CLIP_STD)
    assert torch.equal(clips, clips[:, :, :1].expand_as(clips))
    moving = [sample(smooth_clip(6, 40, 50, seed=r), [spec], r) for r in range(2)]
    (clips,) = render_views(collate_clips(moving), [spec], CLIP_MEAN, CLIP_STD)
    assert not torch.equal(clips, clips[:, :, :1].expand_as(clips))


def test_clips_of_a_batch_and_views_of_a_clip_have_their_own_draws() -> None:
    specs = [replace(STRONG, count=2)]
    frames = smooth_clip(4, 48, 48)
    batch = collate_clips([sample(frames, specs, row) for row in range(8)])
    rendered = render_views(batch, specs, NONE, UNIT)
    kinds = {clip.numpy().tobytes() for view in rendered for clip in view}
    assert len(kinds) == 16


def test_rendering_leaves_the_global_generators_alone() -> None:
    batch = collate_clips(uneven_samples([STRONG]))
    state, legacy = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    first = render_views(batch, [STRONG], NONE, UNIT)
    torch.manual_seed(123)
    assert torch.equal(first[0], render_views(batch, [STRONG], NONE, UNIT)[0])
    torch.set_rng_state(state)
    uneven_samples([STRONG])
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == legacy  # noqa: NPY002


# --- draws -----------------------------------------------------------------------------------------------------------


@given(
    st.integers(1, 400), st.integers(1, 400), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**40)
)
@settings(max_examples=100, deadline=None)
def test_boxes_lie_inside_the_frame(height: int, width: int, a: float, b: float, index: int) -> None:
    spec = ViewSpec("x", 1, 1, scale=(min(a, b), max(a, b)))
    top, left, h, w = draw_view(stream(0, Purpose.SPACE, 0, index, 0), spec, height, width).box.tolist()
    assert h >= 1
    assert w >= 1
    assert 0 <= top <= height - h
    assert 0 <= left <= width - w


def test_draws_follow_their_distributions() -> None:
    spec = ViewSpec(
        "x",
        1,
        1,
        scale=(0.2, 0.5),
        flip=0.5,
        jitter=(0.4, 0.3, 1.5, 0.1),
        jitter_p=0.8,
        gray_p=0.2,
        blur_p=0.1,
        blur_sigma=(0.1, 2.0),
    )
    count = 4000
    draws = stack_draws([draw_view(stream(3, Purpose.SPACE, 0, i, 0), spec, 240, 320) for i in range(count)])
    for field, p in ((draws.flip, 0.5), (draws.jitter, 0.8), (draws.gray, 0.2), (draws.sigma > 0, 0.1)):
        assert abs(field.float().mean() - p) < 4 * math.sqrt(p * (1 - p) / count)
    assert not draws.solarize.any()
    height, width = draws.box[:, 2].double(), draws.box[:, 3].double()
    area = height * width / (240 * 320)
    assert area.min() > 0.19
    assert area.max() < 0.51
    assert abs(area.mean() - 0.35) < 0.01
    assert (width / height).log().mean().abs() < 0.01
    assert (width / height).min() > 0.74
    low = torch.tensor([0.6, 0.7, 0.0, -0.1])
    high = torch.tensor([1.4, 1.3, 2.5, 0.1])
    assert (draws.factors >= low).all()
    assert (draws.factors <= high).all()
    torch.testing.assert_close(draws.factors.mean(0), (low + high) / 2, atol=0.05, rtol=0)
    kinds, counts = draws.order.unique(dim=0, return_counts=True)
    assert len(kinds) == 24
    assert (counts - count / 24).abs().max() < 5 * math.sqrt(count / 24)


def test_a_frame_with_an_extreme_shape_gets_a_centred_crop() -> None:
    spec = ViewSpec("x", 1, 1, scale=(0.9, 1.0))
    for index in range(20):
        box = draw_view(stream(0, Purpose.SPACE, 0, index, 0), spec, 100, 1000).box
        assert box.tolist() == [0, (1000 - 133) // 2, 100, 133]


def test_draws_are_a_function_of_their_words() -> None:
    def draw(seed: int, epoch: int, index: int, view: int) -> bytes:
        return b"".join(
            field.numpy().tobytes()
            for field in draw_view(stream(seed, Purpose.SPACE, epoch, index, view), STRONG, 90, 120)
        )

    words = [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    assert len({draw(*w) for w in words}) == len(words)
    assert [draw(*w) for w in words] == [draw(*w) for w in words]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 0),
        ("frames", 0),
        ("size", 1),
        ("seconds", 0.0),
        ("scale", (0.5, 0.2)),
        ("ratio", (0.0, 1.0)),
        ("flip", 1.5),
        ("jitter", (0.4, 0.4, 0.4, 0.6)),
        ("blur_sigma", (0.0, 1.0)),
    ],
)
def test_impossible_views_are_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(VidsslError, match=f"view 'global': {field}="):
        ViewSpec(**{"name": "global", "count": 1, "frames": 8, field: value})


def test_rendering_other_views_than_drawn_is_refused() -> None:
    batch = collate_clips(uneven_samples([STRONG]))
    with pytest.raises(VidsslError, match="drawn with 1 views, the specifications ask for 2"):
        render_views(batch, [replace(STRONG, count=2)], NONE, UNIT)


# --- evaluation ------------------------------------------------------------------------------------------------------


def eval_batch(frames: list[Tensor]) -> ClipBatch:
    return collate_clips(
        [
            ClipSample(
                frames=clip,
                index=[torch.arange(len(clip))],
                times=[torch.zeros(len(clip))],
                video_id=row,
                draws=[],
                failures=[],
            )
            for row, clip in enumerate(frames)
        ]
    )


def test_centre_crop_of_prepared_frames_is_an_exact_copy() -> None:
    spec = EvalSpec(ClipSpec(2, stride=1), size=32)
    frames = [
        noise(2, 32, 51, 3),
        noise(2, 70, 32, 3, seed=1),
        noise(2, 32, 32, 3, seed=2),
        noise(2, 32, 45, 3, seed=3),
    ]
    (ours,) = render_eval_views(eval_batch(frames), spec, NONE, UNIT)
    for clip, one in zip(frames, ours, strict=True):
        expected = tvf.center_crop(clip.permute(0, 3, 1, 2), [32, 32])
        assert torch.equal(one.transpose(0, 1), expected.float() / 255)
        torch.testing.assert_close(
            one.transpose(0, 1), tvf.to_dtype(expected, torch.float32, scale=True), atol=1e-7, rtol=0
        )


@pytest.mark.parametrize("shape", [(120, 160), (97, 53), (45, 64), (64, 64)])
def test_clip_preprocessing_is_reproduced(shape: tuple[int, int]) -> None:
    """Resize(bicubic, antialias) + CenterCrop + ToTensor of a PIL image, as image CLIP models are evaluated with."""
    size = 64
    clip = smooth_clip(2, *shape, seed=5)
    spec = EvalSpec(ClipSpec(2, stride=1), size=size)
    prepared = resize_short_side(clip, spec.decoded_side, True, spec.interpolation)
    (ours,) = render_eval_views(eval_batch([prepared]), spec, NONE, UNIT)
    preprocess = transforms.Compose(
        [
            transforms.ToPILImage(),
            transforms.Resize(size, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
        ]
    )
    theirs = torch.stack([preprocess(frame.permute(2, 0, 1)) for frame in clip])
    assert (ours[0].transpose(0, 1) - theirs).abs().max() <= 2 / 255 + 1e-6


def test_three_crops_are_start_centre_and_end_of_the_long_side() -> None:
    spec = EvalSpec(ClipSpec(1, stride=1), size=16, crops=3)
    wide, tall, square = noise(1, 16, 41, 3), noise(1, 40, 16, 3), noise(1, 16, 16, 3)
    got = render_eval_views(eval_batch([wide, tall, square]), spec, NONE, UNIT)
    pixels = [(view * 255).round().to(torch.uint8)[:, :, 0].permute(0, 2, 3, 1) for view in got]
    for view, x, y in zip(pixels, (0, 12, 25), (0, 12, 24), strict=True):
        assert torch.equal(view[0], wide[0, :, x : x + 16])
        assert torch.equal(view[1], tall[0, y : y + 16])
        assert torch.equal(view[2], square[0])


def test_short_side_256_crop_224_keeps_the_proportion() -> None:
    spec = EvalSpec(ClipSpec(1, stride=1), size=224, short_side=256)
    assert eval_box(torch.tensor([[256, 340]]), spec, 0).tolist() == [[16, 58, 224, 224]]
    assert eval_box(torch.tensor([[128, 128]]), spec, 0).tolist() == [[8, 8, 112, 112]]


def test_squash_shows_the_whole_frame() -> None:
    spec = EvalSpec(ClipSpec(1, stride=1), size=24, resize="squash")
    frames = noise(1, 30, 77, 3)
    prepared = squash(frames, 24, "bicubic")
    (ours,) = render_eval_views(eval_batch([prepared]), spec, NONE, UNIT)
    theirs = v2.Resize((24, 24), v2.InterpolationMode.BICUBIC, antialias=True)(frames.permute(0, 3, 1, 2))
    assert torch.equal((ours[0].transpose(0, 1) * 255).round().to(torch.uint8), theirs)


def test_short_sides_are_shrunk_and_long_frames_cut() -> None:
    assert resize_short_side(noise(1, 100, 150, 3), 50).shape == (1, 50, 75, 3)
    assert resize_short_side(noise(1, 150, 100, 3), 50).shape == (1, 75, 50, 3)
    small = noise(1, 30, 40, 3)
    assert torch.equal(resize_short_side(small, 50), small)
    assert resize_short_side(small, 60, upsample=True).shape == (1, 60, 80, 3)
    strip = noise(1, 10, 100, 3)
    assert torch.equal(resize_short_side(strip, 50), strip[:, :, 30:70])
    assert torch.equal(resize_short_side(strip.transpose(1, 2), 10), strip[:, :, 30:70].transpose(1, 2))


@pytest.mark.parametrize(
    "options",
    [
        {"crops": 2},
        {"resize": "stretch"},
        {"resize": "squash", "crops": 3},
        {"size": 224, "short_side": 200},
        {"interpolation": "nearest"},
        {"clips_per_video": 0},
    ],
)
def test_impossible_evaluations_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(VidsslError):
        EvalSpec(ClipSpec(8, stride=1), **options)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_agrees_with_the_cpu() -> None:
    plain = replace(STRONG, solarize_p=0.0)
    samples = uneven_samples([plain])
    batch = collate_clips(samples)
    (cpu,) = render_views(batch, [plain], NONE, UNIT)
    (gpu,) = render_views(batch.to("cuda"), [plain], NONE, UNIT)
    torch.testing.assert_close(gpu.cpu(), cpu, atol=1e-4, rtol=0)
    (apart,) = render_views(collate_clips(samples[2:4]).to("cuda"), [plain], NONE, UNIT)
    assert torch.equal(apart, gpu[2:4])
