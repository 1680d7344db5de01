"""Clips to render, and what torchvision makes of each of them alone."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tvf

from vidssl.data.batch import ClipBatch, ClipSample
from vidssl.data.rng import Purpose, stream
from vidssl.data.views.draw import ViewDraw, draw_view
from vidssl.data.views.spec import ViewSpec, expand_views

NONE, UNIT = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


COLOURS = ViewSpec(
    "colours",
    1,
    3,
    size=32,
    jitter=(0.4, 0.4, 0.4, 0.2),
    jitter_p=0.8,
    gray_p=0.3,
    blur_p=0.5,
    solarize_p=0.3,
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
        x = tvf.resize(tvf.crop(x, top, left, height, width), [spec.size, spec.size], antialias=True)
        x = tvf.to_dtype(x, torch.float32, scale=True)
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
