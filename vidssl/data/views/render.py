"""Rendering the views of a whole batch on the device its frames are on.

The worker decodes a window once and draws, for every view, a handful of numbers (`ViewDraw`). The training process
turns the uint8 window into normalised clips: crop, flip and resize, then colours, blur and normalisation. The rendering
of a clip does not depend on its neighbours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vidssl.data.batch import ClipBatch
from vidssl.data.views import colour
from vidssl.data.views.colour import Triple, normalize_
from vidssl.data.views.crop import crop_resize
from vidssl.data.views.draw import ViewDraw
from vidssl.data.views.spec import ViewSpec, expand_views
from vidssl.data.views.strong import strong_
from vidssl.errors import VidsslError

# Output bytes rendered at a time, about a fifth of the scratch memory. On the CPU small pieces stay in the cache and in
# memory that the allocator can reuse (twice as fast); elsewhere it is only a bound. The result does not depend on it.
CHUNK_BYTES = {"cpu": 8 << 20, "device": 256 << 20}


def render_views(batch: ClipBatch, specs: Sequence[ViewSpec], mean: Triple, std: Triple) -> list[Tensor]:
    """Render every view of a batch on the device its frames are on.

    Views of one shape lie one behind the other in memory, so that an encoder takes them as one tensor without copying
    (`vidssl.models.student.joined`).

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
    rendered = _empty_views(batch, views)
    for out, spec, index, draw in zip(rendered, views, batch.index, batch.draws, strict=True):
        _render_view(out, batch.frames, index, ViewDraw(*draw), spec, mean, std)
    return rendered


def _empty_views(batch: ClipBatch, views: Sequence[ViewSpec]) -> list[Tensor]:
    shapes = [(3, spec.frames, spec.size, spec.size) for spec in views]
    room = {
        shape: iter(torch.empty((count, len(batch), *shape), device=batch.frames.device).unbind())
        for shape, count in Counter(shapes).items()
    }
    return [next(room[shape]) for shape in shapes]


@torch.no_grad()
def _render_view(
    out: Tensor, frames: Tensor, index: Tensor, draw: ViewDraw, spec: ViewSpec, mean: Triple, std: Triple
) -> None:
    """One view of every sample: frames (B, N, H, W, 3) uint8 and index (B, T) into clips (B, 3, T, S, S)."""
    limit = CHUNK_BYTES["cpu" if frames.device.type == "cpu" else "device"]
    chunk = max(1, limit // (out[0].numel() * out.element_size()))
    for rows in torch.arange(len(frames)).split(chunk):
        _render_rows(out, rows, frames, index, draw, spec)
        normalize_(out[rows[0] : rows[-1] + 1], mean, std)


def _render_rows(
    out: Tensor, rows: Tensor, frames: Tensor, index: Tensor, draw: ViewDraw, spec: ViewSpec
) -> None:
    """Render some neighbouring rows of the batch, in [0, 1], into the same rows of out; sorted by hue place on the way."""
    device, part = frames.device, out[rows[0] : rows[-1] + 1]
    hue_place = torch.where(draw.jitter, (draw.order == colour.HUE).long().argmax(1), 4)
    order = torch.sort(hue_place[rows], stable=True).indices
    rows = rows[order]
    draw = ViewDraw(*(field[rows] for field in draw))
    groups = torch.bincount(hue_place[rows], minlength=5).tolist()

    in_place = bool((order.diff() > 0).all())
    x = crop_resize(
        frames,
        rows,
        index[rows.to(device, non_blocking=True)],
        draw.box,
        draw.flip,
        part if in_place else torch.empty_like(part),
    ).div_(255)
    _jitter_(x, draw, groups, spec)
    if spec.gray_p:
        _on_rows_(x, draw.gray, colour.to_gray)
    if spec.strong:
        strong_(x, draw.strong, draw.strength)
    if spec.blur_p:
        sigma = draw.sigma[draw.sigma > 0].to(device, non_blocking=True)
        _on_rows_(x, draw.sigma > 0, lambda part: colour.gaussian_blur(part, sigma, spec.blur_kernel))
    if spec.solarize_p:
        _on_rows_(x, draw.solarize, colour.solarize)
    if not in_place:
        part.index_copy_(0, order.to(device, non_blocking=True), x)


def _jitter_(x: Tensor, draw: ViewDraw, groups: Sequence[int], spec: ViewSpec) -> None:
    """Brightness, contrast, saturation and hue in the drawn order of every clip; in place.

    The first three have one formula with coefficients per clip, so only the place of the hue shift (0 to 3) among the
    four tells clips apart: four groups instead of 24 orders.

    Args:
        x: (B, 3, T, S, S), sorted by that place, clips without jitter last.
        groups: number of clips with the hue at place 0, 1, 2, 3, and without jitter.
    """
    steps = colour.blend_coefficients(draw.order, draw.factors.gather(1, draw.order))
    needed = (steps[..., 1:] != 0).tolist()  # of every clip and step
    steps, shift = (v.to(x.device, non_blocking=True) for v in (steps, draw.factors[:, colour.HUE]))
    jittered = sum(groups[:4])
    first = 0
    for place in range(4):
        last = first + groups[place]
        if first < last and spec.jitter[colour.HUE]:
            colour.shift_hue_(x[first:last], shift[first:last])
        for part in (slice(0, first), slice(last, jittered)):
            if part.start < part.stop:
                saturates, contrasts = map(any, zip(*(clip[place] for clip in needed[part]), strict=True))
                colour.blend_(x[part], steps[part, place], saturates, contrasts)
        first = last


def _on_rows_(x: Tensor, chosen: Tensor, operation: Callable[[Tensor], Tensor]) -> None:
    """Replace the chosen (B,) rows of x by operation(those rows). `chosen` is on the CPU: the device never waits."""
    rows = chosen.nonzero()[:, 0].to(x.device, non_blocking=True)
    if len(rows):
        x.index_copy_(0, rows, operation(x.index_select(0, rows)))
