"""Training views: what to draw for a sample, drawn in the worker, and the rendering of a whole batch on the device.

The worker decodes a window once and draws, for every view, a handful of numbers (`ViewDraw`). The training process
turns the uint8 window into normalised clips: crop, flip and resize, then colours, blur and normalisation. One draw
per clip is shared by all its frames. A draw is a function of (seed, epoch, sample, view) only and the rendering of a
clip does not depend on its neighbours, so a view is the same in any batch, worker or process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.data.views import colour
from vidssl.data.views.crop import crop_resize
from vidssl.errors import VidsslError

if TYPE_CHECKING:
    from vidssl.data.batch import ClipBatch

Triple = tuple[float, float, float]

# Output bytes rendered at a time, about a fifth of the scratch memory. On the CPU small pieces stay in the cache and in
# memory that the allocator can reuse (twice as fast); elsewhere it is only a bound. The result does not depend on it.
CHUNK_BYTES = {"cpu": 8 << 20, "device": 512 << 20}


@dataclass(frozen=True)
class ViewSpec:
    """A kind of view; `count` views of it are cut from every sample, each with its own draw.

    Args:
        name: for logs and errors, e.g. "global".
        count: number of such views per sample.
        frames: T, frames per view.
        seconds: temporal extent; None for the whole decoded window.
        stride: source frames from one frame to the next, instead of `seconds`.
        size: side of the square view, in pixels.
        scale: range of the crop's share of the frame area, uniform.
        ratio: range of the crop's width / height, log-uniform.
        flip: probability of mirroring left-right.
        jitter: strengths (brightness, contrast, saturation, hue) as in torchvision's ColorJitter: the first three
            factors are uniform in [max(0, 1 - s), 1 + s], the hue shift in [-s, s] turns; the order is drawn too.
        jitter_p, gray_p, blur_p, solarize_p: probability of each (solarisation: Grill et al. 2020, BYOL).
        blur_sigma: range of the blur in pixels, uniform; the kernel is about a tenth of the size (BYOL).
    """

    name: str
    count: int
    frames: int
    seconds: float | None = None
    size: int = 224
    scale: tuple[float, float] = (0.4, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    gray_p: float = 0.0
    blur_p: float = 0.0
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0
    stride: int | None = None

    def __post_init__(self) -> None:
        def check(field: str, allowed: bool, text: str) -> None:
            if not allowed:
                raise VidsslError(f"view {self.name!r}: {field}={getattr(self, field)}: {text}")

        check("count", self.count >= 1, "must be at least 1")
        check("frames", self.frames >= 1, "must be at least 1")
        check("size", self.size >= 2, "must be at least 2 pixels")
        check("seconds", self.seconds is None or self.seconds > 0, "must be positive, or None for the window")
        check("stride", self.stride is None or self.stride >= 1, "must be at least 1 frame")
        check("stride", self.stride is None or self.seconds is None, "give seconds or stride, not both")
        check("scale", 0 < self.scale[0] <= self.scale[1] <= 1, "must be 0 < min <= max <= 1")
        check("ratio", 0 < self.ratio[0] <= self.ratio[1], "must be 0 < min <= max")
        check("blur_sigma", 0 < self.blur_sigma[0] <= self.blur_sigma[1], "must be 0 < min <= max")
        check("jitter", len(self.jitter) == 4 and min(self.jitter) >= 0, "must be four numbers of at least 0")
        check("jitter", self.jitter[3] <= 0.5, "the hue shift is at most half a turn")
        for field in ("flip", "jitter_p", "gray_p", "blur_p", "solarize_p"):
            check(field, 0 <= getattr(self, field) <= 1, "a probability lies between 0 and 1")

    @property
    def blur_kernel(self) -> int:
        """Odd number of taps, about a tenth of the size, at least 3."""
        return max(3, 2 * (self.size // 20) + 1)


def expand_views(specs: Sequence[ViewSpec]) -> list[ViewSpec]:
    """One entry per view, in the order in which views are drawn and rendered."""
    return [spec for spec in specs for _ in range(spec.count)]


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


def draw_view(rng: np.random.Generator, spec: ViewSpec, height: int, width: int) -> ViewDraw:
    """Draw one view of a sample whose decoded frames are height x width pixels."""
    box = _draw_box(rng, spec, height, width)
    flip, jitter, gray, blur, solarize = rng.random(5) < (
        spec.flip,
        spec.jitter_p,
        spec.gray_p,
        spec.blur_p,
        spec.solarize_p,
    )
    brightness, contrast, saturation, hue = spec.jitter
    low = [max(0.0, 1 - brightness), max(0.0, 1 - contrast), max(0.0, 1 - saturation), -hue]
    factors = rng.uniform(low, [1 + brightness, 1 + contrast, 1 + saturation, hue])
    sigma = rng.uniform(*spec.blur_sigma) if blur else 0.0
    return ViewDraw(
        box=torch.tensor(box),
        flip=torch.tensor(bool(flip)),
        jitter=torch.tensor(bool(jitter) and max(spec.jitter) > 0),
        order=torch.from_numpy(rng.permutation(4)),
        factors=torch.from_numpy(factors).float(),
        gray=torch.tensor(bool(gray)),
        sigma=torch.tensor(sigma, dtype=torch.float32),
        solarize=torch.tensor(bool(solarize)),
    )


def stack_draws(draws: Sequence[ViewDraw]) -> ViewDraw:
    """Stack the draws of one view over samples, every field gains a leading B."""
    return ViewDraw(*(torch.stack(field) for field in zip(*draws, strict=True)))


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


def render_views(batch: ClipBatch, specs: Sequence[ViewSpec], mean: Triple, std: Triple) -> list[Tensor]:
    """Render every view of a batch on the device its frames are on.

    Args:
        batch: as drawn for the same `specs`.
        mean, std: of the encoder, RGB in [0, 1].

    Returns:
        One (B, 3, T, S, S) float32 tensor per view, contiguous, normalised.
    """
    views = expand_views(specs)
    if len(views) != len(batch.draws):
        raise VidsslError(
            f"the batch was drawn with {len(batch.draws)} views, the specifications ask for {len(views)}"
        )
    return [
        render_view(batch.frames, index, draw, spec, mean, std)
        for spec, index, draw in zip(views, batch.index, batch.draws, strict=True)
    ]


@torch.no_grad()
def render_view(
    frames: Tensor, index: Tensor, draw: ViewDraw, spec: ViewSpec, mean: Triple, std: Triple
) -> Tensor:
    """One view of every sample: frames (B, N, H, W, 3) uint8 and index (B, T) to clips (B, 3, T, S, S)."""
    out = torch.empty(len(frames), 3, index.shape[1], spec.size, spec.size, device=frames.device)
    limit = CHUNK_BYTES["cpu" if frames.device.type == "cpu" else "device"]
    chunk = max(1, limit // (out[0].numel() * out.element_size()))
    for rows in torch.arange(len(frames)).split(chunk):
        _render_rows(out, rows, frames, index, draw, spec)
    return normalize_(out, mean, std)


def _render_rows(
    out: Tensor, rows: Tensor, frames: Tensor, index: Tensor, draw: ViewDraw, spec: ViewSpec
) -> None:
    """Render some rows of the batch, in [0, 1], into the same rows of out; sorted by hue place on the way."""
    device = frames.device
    hue_place = torch.where(draw.jitter, (draw.order == colour.HUE).long().argmax(1), 4)
    rows = rows[torch.sort(hue_place[rows], stable=True).indices]
    draw = ViewDraw(*(field[rows] for field in draw))
    groups = torch.bincount(hue_place[rows], minlength=5).tolist()

    there = rows.to(device, non_blocking=True)
    box, flip = (field.to(device, non_blocking=True) for field in (draw.box, draw.flip))
    x = crop_resize(frames, there, index[there], box, flip, spec.size).div_(255)
    _jitter_(x, draw, groups, spec)
    if spec.gray_p:
        _on_rows_(x, draw.gray, colour.to_gray)
    if spec.blur_p:
        sigma = draw.sigma[draw.sigma > 0].to(device, non_blocking=True)
        _on_rows_(x, draw.sigma > 0, lambda part: colour.gaussian_blur(part, sigma, spec.blur_kernel))
    if spec.solarize_p:
        _on_rows_(x, draw.solarize, colour.solarize)
    out.index_copy_(0, there, x)


def normalize_(x: Tensor, mean: Triple, std: Triple) -> Tensor:
    """(x - mean) / std per channel of x (B, 3, T, H, W), in place."""
    shape = (1, 3, 1, 1, 1)
    return x.sub_(x.new_tensor(mean).view(shape)).div_(x.new_tensor(std).view(shape))


def _jitter_(x: Tensor, draw: ViewDraw, groups: Sequence[int], spec: ViewSpec) -> None:
    """Brightness, contrast, saturation and hue in the drawn order of every clip; in place.

    The first three have one formula with coefficients per clip, so only the place of the hue shift (0 to 3) among the
    four tells clips apart: four groups instead of 24 orders.

    Args:
        x: (B, 3, T, S, S), sorted by that place, clips without jitter last.
        groups: number of clips with the hue at place 0, 1, 2, 3, and without jitter.
    """
    steps = colour.blend_coefficients(draw.order, draw.factors.gather(1, draw.order))
    steps, shift = (v.to(x.device, non_blocking=True) for v in (steps, draw.factors[:, colour.HUE]))
    jittered = sum(groups[:4])
    first = 0
    for place in range(4):
        last = first + groups[place]
        if first < last and spec.jitter[colour.HUE]:
            colour.shift_hue_(x[first:last], shift[first:last])
        for part in (slice(0, first), slice(last, jittered)):
            if part.start < part.stop:
                colour.blend_(x[part], steps[part, place])
        first = last


def _on_rows_(x: Tensor, chosen: Tensor, operation: Callable[[Tensor], Tensor]) -> None:
    """Replace the chosen (B,) rows of x by operation(those rows). `chosen` is on the CPU: the device never waits."""
    rows = chosen.nonzero()[:, 0].to(x.device, non_blocking=True)
    if len(rows):
        x.index_copy_(0, rows, operation(x.index_select(0, rows)))
