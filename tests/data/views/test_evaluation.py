from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as tvf

from tests.data.views.rendering import NONE, UNIT, noise, smooth_clip
from vidssl.data.batch import ClipBatch, ClipSample, collate_clips
from vidssl.data.clips import ClipSpec
from vidssl.data.views.crop import resize_short_side, squash
from vidssl.data.views.evaluation import EvalSpec, eval_box, render_eval_views
from vidssl.errors import VidsslError


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
