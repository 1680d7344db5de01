"""Labels of frame 0 carried along a video by the similarity of features, without training.

A cell of frame t gets the mean label of the cells before it that look most like it, weighted by the softmax of their
similarity. Labels are soft and stay so: what is handed on is never rounded. The presets are the published protocols.

    >>> soft = propagate(features, labels)                  # features (T, D, h, w), labels (C, h, w) of frame 0
    >>> soft = propagate(features, labels, "crw", context=5)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from einops import rearrange, repeat
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.presets import Preset, preset_of
from vidssl.evaluation.tracking.tiles import Band, bands

# Similarities held at once: 64 MB in float32. Where they would be more, fewer queries are compared at a time.
SCORES = 16_000_000


@torch.no_grad()
def propagate(features: Tensor, labels: Tensor, preset: str = "dino", **changes: Any) -> Tensor:
    """Carry the labels of frame 0 along a video.

    Of the keys of a query (the cells of frame 0 and of the frames just before its own, inside the window), the top_k most
    similar by cosine count; all of them, where they are fewer. Cells whose features are all zero have cosine 0 with every
    other. Equal, for `ties`, is equal up to the rounding of a cosine.

    Args:
        features: (T, D, h, w), of any norm.
        labels: (C, h, w) of frame 0, soft or one-hot: masks, heat maps of key points, boxes drawn as masks.
        preset: "dino", "crw", "unitrack", "vfs", "cropmae" or "rsp".
        changes: other values for fields of the preset (`presets.Preset`).

    Returns:
        (T, C, h, w) soft labels, those of frame 0 as given. All are convex combinations of labels of frame 0: where
        these sum to one over C, so do all. In the wider precision of features and labels, at least float32.

    Raises:
        VidsslError: for an unknown preset or setting, shapes that do not fit, features or labels that are not finite.
    """
    settings = preset_of(preset, **changes)
    features, labels = _checked(features, labels)
    frames, _, h, w = features.shape
    scores = SCORES // min(frames, 1 + settings.context)
    parts = bands(h, w, settings.radius, settings.window, scores, features.device)
    soft = labels.new_empty(frames, *labels.shape)
    soft[0] = labels
    units: dict[int, Tensor] = {}
    with torch.autocast(features.device.type, enabled=False):
        for frame in range(frames):
            units[frame] = unit_features(features[frame])
            if frame:
                label_frame(frame, units, soft, parts, settings)
            if frame > settings.context:
                units.pop(frame - settings.context)
    return soft


def label_frame(
    frame: int, units: Mapping[int, Tensor], soft: Tensor, parts: list[Band], settings: Preset
) -> None:
    """Fill in the labels of a frame.

    Args:
        frame: whose labels are wanted.
        units: frame -> (h, w, D) unit features, of the frames that give keys and of this one.
        soft: (T, C, h, w) labels, known up to this frame.
        parts: the tiles of the grid.
    """
    windowed = [*[0] * settings.restrict_first, *settings.context_of(frame)]
    everywhere = torch.arange(soft[0, 0].numel(), device=soft.device)
    for band in parts:
        near = {i: units[i][:, band.key_columns].contiguous() for i in windowed}
        for tile in band.tiles:
            queries = units[frame][tile.rows, band.columns]
            height, width, _ = queries.shape
            queries = rearrange(queries, "y x d -> (y x) d")
            found = []
            if windowed:
                rows = {i: keys[tile.key_rows] for i, keys in near.items()}
                found.append(_nearest(queries, rows, windowed, tile.keys, tile.outside, settings))
            if not settings.restrict_first:
                found.append(_nearest(queries, {0: units[0]}, [0], everywhere, None, settings))
            carried = _carried(found, soft, settings)
            soft[frame, :, tile.rows, band.columns] = rearrange(
                carried, "c (y x) -> c y x", y=height, x=width
            )


class Keys(NamedTuple):
    """Keys of queries: their cosines, the frames and the cells where they stand, each (Q, n)."""

    cosines: Tensor
    frames: Tensor
    cells: Tensor


def _nearest(
    queries: Tensor,
    units: Mapping[int, Tensor],
    frames: list[int],
    cells: Tensor,
    outside: Tensor | None,
    settings: Preset,
) -> Keys:
    """Keys of some frames among which are the top_k of each query.

    The top_k keys stand at no more than top_k cells: those that are best when each cell is taken at its best frame.

    Args:
        queries: (Q, D), of unit norm.
        units: frame -> (y, x, D) unit features at `cells`.
        frames: whose keys count; a frame that stands there twice counts twice.
        cells: (M,) places in the grid.
        outside: (Q, M) True where a cell may not count.
    """
    cosines = queries.new_empty(len(queries), len(units), len(cells))
    for slot, unit in enumerate(units.values()):
        torch.mm(queries, rearrange(unit, "y x d -> (y x) d").T, out=cosines[:, slot])
    best = cosines.amax(dim=1)
    if outside is not None:
        best.masked_fill_(outside, -math.inf)
    best, at = _largest(best, settings)
    near = cosines.gather(2, repeat(at, "q n -> q f n", f=len(units)))
    near.masked_fill_(rearrange(best == -math.inf, "q n -> q 1 n"), -math.inf)
    slots = {frame: slot for slot, frame in enumerate(units)}
    near = near[:, [slots[frame] for frame in frames]]
    times = torch.tensor(frames, device=queries.device)
    return Keys(
        rearrange(near, "q f n -> q (f n)"),
        repeat(times, "f -> q (f n)", q=len(at), n=at.shape[1]),
        repeat(cells[at], "q n -> q (f n)", f=len(frames)),
    )


def _largest(values: Tensor, settings: Preset) -> tuple[Tensor, Tensor]:
    """The top_k largest of each row and where they stand; with `ties`, those equal to the last of them too, else -inf."""
    best, at = values.topk(min(settings.top_k, values.shape[1]), dim=1)
    if settings.ties:
        least = best[:, -1:] - 4 * torch.finfo(values.dtype).eps  # the rounding of a cosine
        equal = int(((values >= least) & (values > -math.inf)).sum(dim=1).max())
        if equal > best.shape[1]:
            best, at = values.topk(equal, dim=1)
            best = best.masked_fill(best < least, -math.inf)
    return best, at


def _carried(found: list[Keys], soft: Tensor, settings: Preset) -> Tensor:
    """(C, Q) labels of queries: those of the top_k of the keys found, weighted by the softmax of their cosines.

    Args:
        found: keys among which the top_k are.
        soft: (T, C, h, w) labels of the keys.
    """
    cosines, frames, cells = (torch.cat(parts, dim=1) for parts in zip(*found, strict=True))
    cosines, at = _largest(cosines, settings)
    frames, cells = frames.gather(1, at), cells.gather(1, at)
    weights = ((cosines - cosines[:, :1]) / settings.temperature).softmax(dim=1).to(soft.dtype)
    labels = rearrange(soft, "t c h w -> c t (h w)")
    return torch.stack([(weights * channel[frames, cells]).sum(dim=1) for channel in labels])


def unit_features(features: Tensor) -> Tensor:
    """(D, h, w) to (h, w, D) of unit norm, however small or large; zero stays zero."""
    features = rearrange(features, "d h w -> h w d")
    largest = features.abs().amax(dim=-1, keepdim=True)
    features = features / largest.where(largest > 0, 1)
    norm: Tensor = torch.linalg.vector_norm(features, dim=-1, keepdim=True)
    return features / norm.where(norm > 0, 1)


def _checked(features: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Both as floats on one device, or a line that says what is wrong with them."""
    features, labels = torch.as_tensor(features), torch.as_tensor(labels)
    if features.ndim != 4 or 0 in features.shape:
        raise VidsslError(f"features: shape {tuple(features.shape)}: must be (T, D, h, w), none of them 0")
    if labels.ndim != 3 or 0 in labels.shape:
        raise VidsslError(f"labels: shape {tuple(labels.shape)}: must be (C, h, w), none of them 0")
    if labels.shape[1:] != features.shape[2:]:
        raise VidsslError(
            f"labels: {labels.shape[1]} x {labels.shape[2]} cells, but the features have "
            f"{features.shape[2]} x {features.shape[3]}"
        )
    for name, rows, what in (("features", features, "frame"), ("labels", labels, "channel")):
        broken = [index for index, row in enumerate(rows) if not row.isfinite().all()]
        if broken:
            raise VidsslError(
                f"{name}: {len(broken)} of {len(rows)} {what}s are not finite, first {what} {broken[0]}"
            )
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    return features, labels.to(features.device, torch.promote_types(labels.dtype, features.dtype))
