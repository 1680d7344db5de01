"""Features that are more than a row a clip, frames or patches, read from the cache a few videos at a time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from einops import rearrange
from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.evaluation.features.blocks import block_rows
from vidssl.evaluation.features.shelf import KeptRows
from vidssl.evaluation.features.shelves import Shelves
from vidssl.evaluation.features.sources import Kind, Source
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
        rows, new = self._kept[places]
        each = rows[0, 0].numel() // rows.shape[-1]
        shown = new.repeat_interleave(rows.shape[1] // new.shape[1] * each, dim=1)
        return rearrange(rows, "n v ... d -> n (v ...) d") if rows.ndim == 4 else rows.flatten(1, -2), shown


def kept_tokens(subject: Subject, index: VideoIndex, ok: Tensor, source: Source, kind: Kind) -> Tokens:
    """What `extract_features` kept of the videos that are ok, (N,) bool.

    Raises:
        VidsslError: of one of them nothing is kept: there was no room, or its tokens are not finite.
    """
    shelves = Shelves(subject, block_rows(len(index), subject.options.batch_size))
    shelf = shelves.shelf(source, kind)
    assert shelf is not None, "kept_somewhere"
    return Tokens(shelf.open([name or "" for name in shelves.names(index, ok.nonzero()[:, 0].tolist())]))
