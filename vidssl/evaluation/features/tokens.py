"""Features that are more than a row a clip, frames or patches: read from the cache a few videos at a time, or computed each time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

import torch
from einops import rearrange
from torch import Tensor

from vidssl import distributed
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import Loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.evaluation import render_eval_views
from vidssl.errors import VidsslError
from vidssl.evaluation.features.blocks import block_rows, new_clips, source_rows
from vidssl.evaluation.features.shelf import KeptRows
from vidssl.evaluation.features.shelves import Shelves
from vidssl.evaluation.features.sources import Kind, Source, encoder_source
from vidssl.evaluation.setup import EvalOptions, Subject


@contextmanager
def kept_somewhere(options: EvalOptions) -> Iterator[EvalOptions]:
    """The options, with a cache in any case: where none is wanted a folder for temporary files, gone after the block."""
    if options.cache is not False:
        yield options
        return
    folder = distributed.on_first(lambda: mkdtemp(prefix="vidssl-features-"))
    try:
        yield replace(options, cache=Path(folder), cache_gigabytes=1e6)
    finally:
        if distributed.rank() == 0:
            shutil.rmtree(folder, ignore_errors=True)


class Tokens:
    """The tokens of N videos, those of all their clips and crops one after the other; nothing but what is asked for is read."""

    def __init__(self, kept: KeptRows) -> None:
        self._kept = kept

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(n, tokens, D) float32 of the videos at n places, and (n, tokens) bool: those of clips that are not there twice."""
        return _one_after_the_other(*self._kept[places])

    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """Those of one batch of places after the other."""
        for places in batches:
            yield self[places]


class FreshTokens(Tokens):
    """The same tokens to the last bit, decoded and encoded each time they are asked for: for what no disk has room for.

    Args:
        subject: how videos are shown.
        index: all videos, whose places decide in which row of a block one is shown to the encoder.
        ids: of the N of them.
        source, kind: of the tokens.
    """

    def __init__(
        self, subject: Subject, index: VideoIndex, ids: Sequence[int], source: Source, kind: Kind
    ) -> None:
        self._subject, self._index, self._ids = subject, index, list(ids)
        self._source, self._kind = source, kind
        self._rows = block_rows(len(index), subject.options.batch_size)

    def __len__(self) -> int:
        return len(self._ids)

    def __getitem__(self, places: Sequence[int]) -> tuple[Tensor, Tensor]:
        """As `Tokens.__getitem__`."""
        return next(self.batches([places]))

    @torch.no_grad()
    def batches(self, batches: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """As `Tokens.batches`, later ones decoded meanwhile.

        Raises:
            VidsslError: for a video that cannot be read any more, or whose tokens are not finite.
        """
        subject, options = self._subject, self._subject.options
        dataset = EvalClipDataset(self._index, options.spec(subject.encoder), backend=options.backend)
        asked = [[self._ids[place] for place in places] for places in batches]
        blocks = [_in_blocks(ids, self._rows) for ids in asked]
        decoded = iter(Loader(dataset, [ids for each in blocks for ids in each], num_workers=options.workers))
        for ids, each in zip(asked, blocks, strict=True):
            order, parts = [video for block in each for video in block], []
            for block, batch in zip(each, decoded, strict=False):
                if batch.failures:
                    raise VidsslError(
                        f"{batch.failures[0].path}: cannot be read any more: {batch.failures[0].reason}"
                    )
                moved = batch.to(subject.device, non_blocking=True)
                views = render_eval_views(moved, dataset.spec, subject.encoder.mean, subject.encoder.std)
                new = new_clips(batch.index)
                spots = torch.tensor(block, device=subject.device) % self._rows
                found = source_rows([self._source], views, new, spots, self._rows)
                parts.append((found[self._source.name][self._kind], new.T))
            places = torch.tensor([order.index(video) for video in ids])
            rows, new = (torch.cat(part)[places] for part in zip(*parts, strict=True))
            if not bool(rows.isfinite().all()):
                lost = (~rows.flatten(1).isfinite().all(dim=1)).nonzero()[0, 0]
                raise VidsslError(f"{self._index.paths[ids[int(lost)]]}: its tokens are not finite")
            yield _one_after_the_other(rows, new)


def _one_after_the_other(rows: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    """(n, V, …, D) rows and (n, C) new -> (n, tokens, D) and (n, tokens) bool."""
    each = rows[0, 0].numel() // rows.shape[-1]
    shown = new.repeat_interleave(rows.shape[1] // new.shape[1] * each, dim=1)
    return rearrange(rows, "n v ... d -> n (v ...) d") if rows.ndim == 4 else rows.flatten(1, -2), shown


def _in_blocks(ids: Sequence[int], rows: int) -> list[list[int]]:
    """Videos in as few blocks as let each stand in its own row."""
    blocks: list[dict[int, int]] = []
    for video in ids:
        free = next((block for block in blocks if video % rows not in block), None)
        if free is None:
            blocks.append(free := {})
        free[video % rows] = video
    return [sorted(block.values(), key=lambda video: video % rows) for block in blocks]


def token_bytes(subject: Subject, kind: Kind, videos: int) -> int:
    """How much the tokens of so many videos take, of the encoder and of its untrained twin."""
    spec = subject.options.spec(subject.encoder)
    clip = torch.zeros(1, 3, spec.clip.frames, spec.size, spec.size, device=subject.device)
    with torch.no_grad():
        one = encoder_source(subject.encoder, "trained", (kind,)).run(clip)[kind]
    twins = 1 if subject.untrained is None else 2
    return twins * videos * spec.clips_per_video * spec.crops * one.numel() * one.element_size()


def kept_tokens(subject: Subject, index: VideoIndex, ok: Tensor, source: Source, kind: Kind) -> Tokens:
    """What `extract_features` kept of the videos that are ok, (N,) bool.

    Raises:
        VidsslError: of one of them nothing is kept: there was no room, or its tokens are not finite.
    """
    shelves = Shelves(subject, block_rows(len(index), subject.options.batch_size))
    shelf = shelves.shelf(source, kind)
    assert shelf is not None, "kept_somewhere"
    return Tokens(shelf.open([name or "" for name in shelves.names(index, ok.nonzero()[:, 0].tolist())]))
