"""The numbers of a view, drawn in the worker, where the size of the decoded frames is known.

One draw per clip is shared by all its frames. A draw is a function of (seed, epoch, sample, view) only, so a view is the
same in any batch, worker or process.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.data.batch import ClipBatch
from vidssl.data.views.spec import ViewSpec
from vidssl.data.views.strong import OPERATIONS


class ViewDraw(NamedTuple):
    """The numbers of one view of one sample, or of B samples stacked on dim 0. Kept on the CPU."""

    box: Tensor  # (4,) int64: top, left, height, width of the crop, in pixels of the decoded frames
    flip: Tensor  # () bool
    jitter: Tensor  # () bool: whether factors and order apply
    order: Tensor  # (4,) int64: permutation of BRIGHTNESS, CONTRAST, SATURATION, HUE
    factors: Tensor  # (4,) float32, in the fixed order brightness, contrast, saturation, hue
    gray: Tensor  # () bool
    sigma: Tensor  # () float32: pixels of the view; 0 for no blur
    solarize: Tensor  # () bool
    strong: Tensor  # (n,) int64: the strong operations, places in `strong.OPERATIONS`
    strength: Tensor  # (n,) float32 in [-1, 1]: of each
    key: Tensor  # () int64: from which an encoder draws the patches that it leaves out


def draw_view(rng: np.random.Generator, spec: ViewSpec, height: int, width: int) -> ViewDraw:
    """Draw one view of a sample whose decoded frames are height x width pixels."""
    box = _draw_box(rng, spec, height, width)
    chances = (spec.flip, spec.jitter_p, spec.gray_p, spec.blur_p, spec.solarize_p)
    flip, jitter, gray, blur, solarize = rng.random(5) < chances
    brightness, contrast, saturation, hue = spec.jitter
    low = [max(0.0, 1 - brightness), max(0.0, 1 - contrast), max(0.0, 1 - saturation), -hue]
    factors = rng.uniform(low, [1 + brightness, 1 + contrast, 1 + saturation, hue])
    sigma = rng.uniform(*spec.blur_sigma) if blur else 0.0
    order = rng.permutation(4)
    # What came later is drawn last, so that the rest is what it was before.
    strong, signs = np.empty(0, np.int64), np.empty(0)
    if spec.strong:
        strong = rng.integers(len(OPERATIONS), size=spec.strong)
        signs = rng.choice([-1.0, 1.0], size=spec.strong)
    fields = (
        np.array(box),
        flip,
        jitter and max(spec.jitter) > 0,
        order,
        factors.astype(np.float32),
        gray,
        np.float32(sigma),
        solarize,
        strong,
        (signs * spec.strength).astype(np.float32),
        rng.integers(2**63),
    )
    # A third of the time that torch.tensor takes for a single number.
    return ViewDraw(*(torch.from_numpy(np.asarray(field)) for field in fields))


def token_keys(batch: ClipBatch) -> list[Tensor]:
    """(B,) int64 for every view of a training batch, where its frames are: what `VideoEncoder.forward` takes as keys."""
    return [ViewDraw(*draw).key.to(batch.frames.device) for draw in batch.draws]


def _draw_box(rng: np.random.Generator, spec: ViewSpec, height: int, width: int) -> tuple[int, int, int, int]:
    """Random resized crop (Szegedy et al. 2015): ten tries, then the largest centred box with an allowed ratio."""
    area = rng.uniform(*spec.scale, size=10) * height * width
    ratio = np.exp(rng.uniform(math.log(spec.ratio[0]), math.log(spec.ratio[1]), size=10))
    place = rng.random(2)
    boxes = np.rint(np.sqrt(np.stack((area / ratio, area * ratio), axis=1))).astype(np.int64)
    fits = (boxes >= 1).all(1) & (boxes <= (height, width)).all(1)
    if fits.any():
        h, w = (int(side) for side in boxes[fits.argmax()])
        return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    h = min(height, max(1, round(width / spec.ratio[0])))
    w = min(width, max(1, round(height * spec.ratio[1])))
    return (height - h) // 2, (width - w) // 2, h, w
