"""Encoding videos in blocks that the index alone decides: the same bits on any number of processes, resumed or not.

Block b holds videos b·rows to (b+1)·rows - 1; process r of n has blocks r, r + n, … Whatever is shown to a network has as many
rows as a block, those that are not wanted black, so that a feature depends neither on what it is computed with nor by whom.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import Loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.views.evaluation import render_eval_views
from vidssl.evaluation.features.sources import Kind, Source
from vidssl.evaluation.setup import Subject
from vidssl.progress import Progress


@dataclass(frozen=True)
class Encoded:
    """Features of n videos.

    Attributes:
        ids: (n,) of the videos. failed: (n,) bool, those that could not be decoded. failures: one for each of these.
        new: (n, C) bool, False for a clip of the same frames as an earlier one of its video.
        rows: of each source that was wanted, for each kind, (n, V, …) float32: the crops of a clip next to each other, zero
            where the clip is not new.
    """

    ids: list[int]
    failed: Tensor
    failures: list[FailedVideo]
    new: Tensor
    rows: dict[str, dict[Kind, Tensor]]


def block_rows(videos: int, batch_size: int) -> int:
    """Rows of a block: as few as the fewest blocks of at most `batch_size` need."""
    return math.ceil(videos / math.ceil(videos / batch_size))


def own_videos(videos: int, rows: int) -> list[int]:
    """The videos of this process, in order."""
    rank, processes = distributed.rank(), distributed.world_size()
    return [video for video in range(videos) if video // rows % processes == rank]


@torch.no_grad()
def encode_blocks(
    subject: Subject,
    index: VideoIndex,
    wanted: Sequence[tuple[int, Sequence[Source]]],
    rows: int,
    description: str,
    done: int = 0,
) -> Iterator[Encoded]:
    """Decode and encode videos, one block at a time.

    Args:
        wanted: numbers of videos in ascending order, and whose features of each are wanted.
        rows: of a block.
        description: of the progress bar. done: videos that it begins with.
    """
    options, encoder = subject.options, subject.encoder
    dataset = EvalClipDataset(index, options.spec(encoder), backend=options.backend)
    sources = dict(wanted)
    blocks = [list(block) for _, block in groupby(sources, key=lambda video: video // rows)]
    if not blocks:
        return
    loader = Loader(dataset, blocks, num_workers=options.workers)
    total = done + len(sources)
    with Progress(description, total, "video", done=done, delay=1, show=total > 1) as bar:
        for ids, batch in zip(blocks, loader, strict=True):
            moved = batch.to(subject.device, non_blocking=True)
            views = render_eval_views(moved, dataset.spec, encoder.mean, encoder.std)
            new = new_clips(batch.index)
            asked = {source.name: source for video in ids for source in sources[video]}
            places = torch.tensor(ids, device=subject.device) % rows
            yield Encoded(
                ids,
                batch.failed,
                batch.failures,
                new.T,
                source_rows(list(asked.values()), views, new, places, rows),
            )
            bar.update(len(ids))


def new_clips(index: Sequence[Tensor]) -> Tensor:
    """(C, B) bool: False for a clip of the same frames as an earlier one of its video, from C tensors (B, T) of frames."""
    rows = [torch.stack([(clip == earlier).all(dim=1) for earlier in index]) for clip in index]
    return torch.stack([~same[:number].any(dim=0) for number, same in enumerate(rows)])


def source_rows(
    sources: Sequence[Source], views: Sequence[Tensor], new: Tensor, places: Tensor, rows: int
) -> dict[str, dict[Kind, Tensor]]:
    """(n, V, …) of each source and kind, on the CPU.

    Args:
        views: V tensors (n, 3, T, H, W). new: (C, n), see `new_clips`.
        places: (n,) rows of the block in which they stand. rows: of a block.
    """
    crops = len(views) // len(new)
    found: dict[str, dict[Kind, list[Tensor]]] = {source.name: {} for source in sources}
    for number, view in enumerate(views):
        shown = new[number // crops]
        if len(view) < rows:
            view = view.new_zeros(rows, *view.shape[1:]).index_copy_(0, places, view)
        for source in sources:
            parts = found[source.name]
            if not bool(shown.any()):  # never the first clip
                for rows_before in parts.values():
                    rows_before.append(torch.zeros_like(rows_before[0]))
                continue
            for kind, features in source.run(view).items():
                part = features[places].cpu()
                part[~shown] = 0
                parts.setdefault(kind, []).append(part)
    return {
        name: {kind: torch.stack(part, dim=1) for kind, part in parts.items()}
        for name, parts in found.items()
    }
