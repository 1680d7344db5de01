"""Where the features of one way of showing videos are kept: a shelf for each encoder and kind."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from vidssl.data.manifest.content import content_hash
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.errors import VidsslError, check_value
from vidssl.evaluation.features.room import Room
from vidssl.evaluation.features.shelf import Shelf
from vidssl.evaluation.features.sources import Kind, Source
from vidssl.evaluation.setup import EvalOptions, Subject
from vidssl.version import __version__


class Shelves:
    """Shelves of features that were computed alike, or none where nothing is to be kept.

    Args:
        subject: says how videos are shown, and where features are kept.
        rows: of a block, on which the last bits of a feature depend.
    """

    def __init__(self, subject: Subject, rows: int) -> None:
        options, spec = subject.options, subject.options.spec(subject.encoder)
        self._room = room_of(options)
        self._shown: dict[str, Any] = {
            "views": {**asdict(spec), "clip": repr(spec.clip)},
            "colours": [subject.encoder.mean, subject.encoder.std],
            "decoder": options.backend,
            "rows": rows,
            "vidssl": __version__,
        }
        self._shelves: dict[tuple[str, Kind], Shelf] = {}

    def shelf(self, source: Source, kind: Kind) -> Shelf | None:
        """That of a kind of features of an encoder."""
        if self._room is None:
            return None
        key = (source.digest, kind)
        if key not in self._shelves:
            about = {"source": source.digest, "pooling": kind.pooling, "layer": kind.layer, **self._shown}
            self._shelves[key] = Shelf(self._room, about)
        return self._shelves[key]

    def names(self, index: VideoIndex, ids: Sequence[int]) -> list[str | None]:
        """By what videos are known on a shelf: their content, whatever their paths; None where that cannot be read."""
        return [None if self._room is None else _name(index, video) for video in ids]

    def flush(self) -> None:
        """Write what waits."""
        for shelf in self._shelves.values():
            shelf.flush()


def room_of(options: EvalOptions) -> Room | None:
    """The folder in which features are kept; None where none are to be, or the user's cache cannot be written.

    Raises:
        VidsslError: a folder that was named cannot be written, or the limit is not positive.
    """
    check_value("cache_gigabytes", options.cache_gigabytes, options.cache_gigabytes > 0, "above 0")
    if options.cache is False:
        return None
    if options.cache is not True:
        return Room(options.cache, options.cache_gigabytes)
    from platformdirs import user_cache_path

    with suppress(VidsslError):
        return Room(user_cache_path("vidssl") / "features", options.cache_gigabytes)
    return None


def _name(index: VideoIndex, video: int) -> str | None:
    try:
        return f"{content_hash(index.path(video))}{index.part(video) or ''}"
    except OSError:
        return None
