from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import (
    CLIP_MEAN,
    CLIP_STD,
    COLOURS,
    NONE,
    UNIT,
    one_by_one,
    sample,
    smooth_clip,
    uneven_samples,
)
from vidssl.data.batch import collate_clips
from vidssl.data.clips import ClipSpec
from vidssl.data.views import render as views
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.data.views.render import render_views
from vidssl.errors import VidsslError
from vidssl.models.student import joined


@pytest.mark.parametrize("seed", range(4))
def test_views_equal_torchvision_applied_to_every_clip_alone(seed: int) -> None:
    batch = collate_clips(uneven_samples([COLOURS], seed))
    (ours,) = render_views(batch, [COLOURS], NONE, UNIT)
    theirs = one_by_one(batch, COLOURS)
    # Solarisation jumps at one half: leave out pixels that rounding may put on the other side.
    settled = ~batch.draws[0].solarize.view(-1, 1, 1, 1, 1) | ((theirs - 0.5).abs() > 1e-4)
    assert ours.is_contiguous()
    assert ((ours - theirs).abs() * settled).max() < 1e-4
    assert settled.float().mean() > 0.99


def test_every_order_of_the_colours_is_honoured() -> None:
    spec = replace(COLOURS, jitter_p=1.0, gray_p=0.0, blur_p=0.0, solarize_p=0.0)
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
    batch = collate_clips(uneven_samples([COLOURS]))
    (plain,) = render_views(batch, [COLOURS], NONE, UNIT)
    (ours,) = render_views(batch, [COLOURS], CLIP_MEAN, CLIP_STD)
    assert plain.min() >= 0
    assert plain.max() <= 1
    theirs = tvf.normalize(plain.transpose(1, 2), list(CLIP_MEAN), list(CLIP_STD)).transpose(1, 2)
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_a_view_does_not_depend_on_its_batch_to_the_last_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [COLOURS, replace(COLOURS, name="local", count=2, frames=2, size=20, strong=3, strength=0.8)]
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
    samples = uneven_samples([COLOURS])
    batch = collate_clips(samples)
    dirty = torch.full_like(batch.frames, 255)
    for row, one in enumerate(samples):
        n, h, w, _ = one.frames.shape
        dirty[row, :n, :h, :w] = one.frames
    assert not torch.equal(dirty, batch.frames)
    clean = render_views(batch, [COLOURS], NONE, UNIT)
    assert torch.equal(clean[0], render_views(replace(batch, frames=dirty), [COLOURS], NONE, UNIT)[0])
    spec = EvalSpec(ClipSpec(3, stride=1), size=24, crops=3)
    for a, b in zip(
        render_eval_views(batch, spec, NONE, UNIT),
        render_eval_views(replace(batch, frames=dirty), spec, NONE, UNIT),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_a_static_clip_stays_static_and_a_moving_one_does_not() -> None:
    spec = replace(COLOURS, frames=6)
    still = [sample(smooth_clip(1, 40, 50, seed=r).expand(6, -1, -1, -1), [spec], r) for r in range(12)]
    (clips,) = render_views(collate_clips(still), [spec], CLIP_MEAN, CLIP_STD)
    assert torch.equal(clips, clips[:, :, :1].expand_as(clips))
    moving = [sample(smooth_clip(6, 40, 50, seed=r), [spec], r) for r in range(2)]
    (clips,) = render_views(collate_clips(moving), [spec], CLIP_MEAN, CLIP_STD)
    assert not torch.equal(clips, clips[:, :, :1].expand_as(clips))


def test_clips_of_a_batch_and_views_of_a_clip_have_their_own_draws() -> None:
    specs = [replace(COLOURS, count=2)]
    frames = smooth_clip(4, 48, 48)
    batch = collate_clips([sample(frames, specs, row) for row in range(8)])
    rendered = render_views(batch, specs, NONE, UNIT)
    kinds = {clip.numpy().tobytes() for view in rendered for clip in view}
    assert len(kinds) == 16


def test_rendering_leaves_the_global_generators_alone() -> None:
    batch = collate_clips(uneven_samples([COLOURS]))
    state, legacy = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002
    first = render_views(batch, [COLOURS], NONE, UNIT)
    torch.manual_seed(123)
    assert torch.equal(first[0], render_views(batch, [COLOURS], NONE, UNIT)[0])
    torch.set_rng_state(state)
    uneven_samples([COLOURS])
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == legacy  # noqa: NPY002


def test_views_of_a_shape_lie_one_behind_the_other() -> None:
    specs = [replace(COLOURS, count=2), replace(COLOURS, name="local", count=3, frames=2, size=20), COLOURS]
    views = render_views(collate_clips(uneven_samples(specs)), specs, NONE, UNIT)
    for places in ([0, 1, 5], [2, 3, 4], [0, 1]):
        chosen = [views[place] for place in places]
        together = joined(chosen)
        assert torch.equal(together, torch.cat(chosen))
        assert together.data_ptr() == chosen[0].data_ptr()  # nothing was copied
    for others in ([views[1], views[0]], [views[0], views[5]], [views[0], views[1].clone()]):
        assert torch.equal(joined(others), torch.cat(others))
        assert joined(others).data_ptr() != others[0].data_ptr()


def test_rendering_other_views_than_drawn_is_refused() -> None:
    batch = collate_clips(uneven_samples([COLOURS]))
    with pytest.raises(VidsslError, match="drawn with 1 views, the specifications ask for 2"):
        render_views(batch, [replace(COLOURS, count=2)], NONE, UNIT)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_agrees_with_the_cpu() -> None:
    plain = replace(COLOURS, solarize_p=0.0)
    samples = uneven_samples([plain])
    batch = collate_clips(samples)
    (cpu,) = render_views(batch, [plain], NONE, UNIT)
    (gpu,) = render_views(batch.to("cuda"), [plain], NONE, UNIT)
    difference = (gpu.cpu() - cpu).abs()  # crops are rounded once more on a CPU
    assert difference.mean() < 2 / 255
    assert difference.quantile(0.99) < 4 / 255
    (apart,) = render_views(collate_clips(samples[2:4]).to("cuda"), [plain], NONE, UNIT)
    assert torch.equal(apart, gpu[2:4])
