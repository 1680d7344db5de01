"""What latent distribution matching reads of one view: latents, what is predicted of them, and which frames are real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vidssl.dynamics.ssm import input_noise
from vidssl.errors import VidsslError
from vidssl.objectives.base import BatchInfo, Views, frame_rows, frame_times


class LatentView(NamedTuple):
    """One view: latents and targets (B, T, m), noise of the observations, which frames are real, and when they are."""

    z: Tensor
    target: Tensor
    R: Tensor | None
    valid: Tensor | None
    times: Tensor | None

    def of(self, rows: slice) -> LatentView:
        """Only these rows."""
        return LatentView(*(None if x is None else x[rows] for x in self))  # type: ignore[arg-type]


def latent_views(
    student: Views, targets: Mapping[int, Tensor] | None, batch: BatchInfo | None, dim: int, noisy: bool
) -> list[LatentView]:
    """The views that have a target.

    Args:
        student: its outputs.
        targets: by view, (B, T, at least m) what is predicted; None: the latents themselves.
        batch: its times (B, T) in seconds; a frame whose time does not lie after all earlier ones is padding.
        dim: m.
        noisy: rows are not (B, T, m) but (B, T, 2m), with the noise of every frame in the second half (see `input_noise`).

    Raises:
        VidsslError: for rows of another size.
    """
    width = 2 * dim if noisy else dim
    rows = dict(enumerate(frame_rows(student, predicted=False)))
    times: dict[int, Tensor | None] = dict.fromkeys(rows)
    if batch is not None and batch.times:
        times = {v: frame_times(batch.times[v], row.shape[1]) for v, row in rows.items()}
    for row in rows.values():
        if row.shape[2] != width:
            raise VidsslError(f"ldm: rows have {row.shape[2]} dimensions; the model was built for {width}")
    seen = [v for v in rows if targets is None or v in targets]
    valid = _real_frames([times[v] for v in seen])
    return [
        _view(rows[v], None if targets is None else targets[v], times[v], real, dim)
        for v, real in zip(seen, valid, strict=True)
    ]


def teacher_targets(teacher: Views, batch: BatchInfo | None) -> dict[int, Tensor]:
    """The teacher's rows by the number of the view that they show.

    Raises:
        VidsslError: when there is no teacher.
    """
    if not teacher:
        raise VidsslError("ldm: target='teacher' needs the rows of a teacher")
    seen = range(len(teacher)) if batch is None else batch.teacher_views or range(len(teacher))
    return dict(zip(seen, frame_rows(teacher, predicted=False), strict=True))


def _view(
    rows: Tensor, target: Tensor | None, times: Tensor | None, valid: Tensor | None, dim: int
) -> LatentView:
    if valid is not None:
        rows = torch.where(valid[..., None], rows, 0)
    z, raw = rows[..., :dim], rows[..., dim:]
    if target is None:
        target = z
    else:
        target = target[..., :dim] if valid is None else torch.where(valid[..., None], target[..., :dim], 0)
    return LatentView(z, target, input_noise(raw) if raw.shape[-1] else None, valid, times)


def _real_frames(times: Sequence[Tensor | None]) -> list[Tensor | None]:
    """(B, T) bool of every view, which frames lie after all earlier ones; None when all do. One synchronisation for all."""
    later = [None if t is None else t[:, 1:] > t.cummax(dim=1).values[:, :-1] for t in times]
    known = [x for x in later if x is not None]
    whole = iter(torch.stack([x.all() for x in known]).tolist() if known else [])
    return [
        None if x is None or next(whole) else torch.cat([torch.ones_like(x[:, :1]), x], dim=1) for x in later
    ]
