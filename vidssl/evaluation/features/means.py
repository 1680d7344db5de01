"""Features of a data set, whose videos are decoded once: what was computed before is read, by every protocol.

What counts is decided here, once for all protocols: features that are not finite are those of a video that failed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vidssl import distributed
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.errors import VidsslError, counted
from vidssl.evaluation.features.blocks import Encoded, block_rows, encode_blocks, own_videos
from vidssl.evaluation.features.shelf import Shelf
from vidssl.evaluation.features.shelves import Shelves
from vidssl.evaluation.features.sources import CLIP, UNIT, Kind, Source, encoder_source, motion_source
from vidssl.evaluation.setup import Subject


@dataclass(frozen=True)
class FeatureSet:
    """Features of N videos, in the order of the index.

    Attributes:
        features: name -> (N, D) float32, finite, means over the clips and crops of a video, of which those of the same
            frames are one; rows that are not ok are zero. Kept apart: (N, V, D), zero where not `shown`.
        ok: name -> (N,) bool, False where the video could not be decoded, or these features of it are not finite.
        failures: one entry for each video that is not ok somewhere.
        fewer_clips: how many videos are too short for as many different clips as were asked for.
        shown: (N, V) bool, False for a clip of the same frames as an earlier one; the crops of a clip next to each other;
            empty where no pooled features were asked for.
        read: how many videos were not decoded, because all that was wanted of them was kept.
    """

    features: dict[str, Tensor]
    ok: dict[str, Tensor]
    failures: tuple[FailedVideo, ...]
    fewer_clips: int
    shown: Tensor = field(default_factory=lambda: torch.ones(0, 0, dtype=torch.bool))
    read: int = 0

    def constant(self, name: str) -> bool:
        """Whether these features are, up to rounding, the same for all of two or more videos."""
        rows = self.features[name][self.ok[name]]
        if len(rows) < 2:
            return False
        return bool((rows.amax(0) - rows.amin(0)).max() <= 1e-6 * rows.abs().max())


def extract_features(
    subject: Subject,
    index: VideoIndex,
    *,
    motion: bool = False,
    kinds: Sequence[Kind] = (CLIP, UNIT),
    apart: bool = False,
    description: str,
) -> FeatureSet:
    """Features of the encoder, its untrained twin and (with `motion`) the motion baseline.

    What the cache of `subject.options` has is read; the other videos are decoded, once for all that is wanted of them, and
    kept. Processes share the videos (see `blocks`); all of them return the complete set, equal to the last bit whatever
    their number and whatever was kept. No video is left out, repeated or replaced; one that fails is never kept.

    Args:
        subject: whose features; they are named ``trained`` and ``untrained``, with ``/unit`` behind those of kind `UNIT`,
            and ``motion``.
        index: the N videos.
        kinds: of the encoders' features. Those that are not pooled are only kept, as frame features always are.
        apart: clips and crops are kept apart, no means taken.
        description: of the progress bar.

    Raises:
        VidsslError: when features are finite for none of the videos.
    """
    twins = {"trained": subject.encoder, "untrained": subject.untrained}
    sources = [encoder_source(encoder, name, kinds) for name, encoder in twins.items() if encoder is not None]
    if motion:
        sources.append(motion_source())
    rows = block_rows(len(index), subject.options.batch_size)
    part = _Part(own_videos(len(index), rows), apart)
    shelves = Shelves(subject, rows)
    names = shelves.names(index, part.ids)
    lacking: list[list[Source]] = [[] for _ in part.ids]
    for source in sources:
        for place in _not_kept(source, shelves, names, part):
            lacking[place].append(source)
    wanted = [(video, lacks) for video, lacks in zip(part.ids, lacking, strict=True) if lacks]
    part.read = len(part.ids) - len(wanted)
    place_of = {video: place for place, video in enumerate(part.ids)}
    for block in encode_blocks(subject, index, wanted, rows, description, part.read):
        places = [place_of[video] for video in block.ids]
        part.failed[places] = block.failed
        part.failures.extend(block.failures)
        for source in sources:
            for kind, found in block.rows.get(source.name, {}).items():
                if kind in source.needed and kind.is_pooled:
                    part.add(source.title(kind), torch.tensor(places), found, block.new)
                _keep(shelves.shelf(source, kind), [names[place] for place in places], block, found)
    shelves.flush()
    return _in_order(distributed.gather_objects(part), index, str(subject.path))


def _keep(shelf: Shelf | None, names: Sequence[str | None], block: Encoded, rows: Tensor) -> None:
    """Keep the rows of the videos of a block that did not fail and whose features are finite."""
    if shelf is None:
        return
    named = torch.tensor([name is not None for name in names])
    fine = named & ~block.failed & rows.flatten(1).isfinite().all(dim=1)
    kept = [name for name, good in zip(names, fine.tolist(), strict=True) if name is not None and good]
    shelf.keep(kept, rows[fine], block.new[fine])


def _not_kept(source: Source, shelves: Shelves, names: Sequence[str | None], part: _Part) -> list[int]:
    """Places of the videos of which not all is kept; what is of the others goes into `part`."""
    kept = torch.ones(len(names), dtype=torch.bool)
    for kind in source.needed:
        here = torch.zeros_like(kept)
        if (shelf := shelves.shelf(source, kind)) is not None:
            if kind.is_pooled:
                for found in shelf.find(names):
                    here[found.places] = True
                    part.add(source.title(kind), found.places, found.rows, found.new)
            else:
                here = torch.tensor(shelf.has(names), dtype=torch.bool)
        kept &= here
    return (~kept).nonzero()[:, 0].tolist()


class _Part:
    """One process's rows; `ids`: its videos, in order."""

    def __init__(self, ids: list[int], apart: bool = False) -> None:
        self.ids, self.apart, self.read = ids, apart, 0
        self.failed = torch.zeros(len(ids), dtype=torch.bool)
        self.failures: list[FailedVideo] = []
        self.rows: dict[str, Tensor] = {}
        self.shown: Tensor | None = None
        self.short = torch.zeros(len(ids), dtype=torch.bool)

    def add(self, name: str, places: Tensor, rows: Tensor, new: Tensor) -> None:
        """Rows (n, V, D) and `new` (n, C) of the videos at n places."""
        shown = new.repeat_interleave(rows.shape[1] // new.shape[1], dim=1)
        self.short[places] = ~new.all(dim=1)
        if self.shown is None:
            self.shown = torch.zeros(len(self.ids), shown.shape[1], dtype=torch.bool)
        self.shown[places] = shown
        values = rows if self.apart else mean_over_views(rows, shown)
        if name not in self.rows:
            self.rows[name] = torch.zeros(len(self.ids), *values.shape[1:])
        self.rows[name][places] = values


def mean_over_views(rows: Tensor, shown: Tensor) -> Tensor:
    """(n, V, …) and (n, V) bool -> (n, …), the mean over the views that are shown, at least one, added in their order."""
    mask = shown.reshape(*shown.shape, *[1] * (rows.ndim - 2))
    total = torch.zeros_like(rows[:, 0])
    for view in range(rows.shape[1]):
        total = total + torch.where(mask[:, view], rows[:, view], 0)
    return total / mask.sum(dim=1)


def _in_order(parts: Sequence[_Part], index: VideoIndex, source: str) -> FeatureSet:
    """The processes' rows in the order of the index, without those that are not finite; `source` is whose they are."""
    parts = [part for part in parts if part.ids]
    ids, order = torch.tensor([video for part in parts for video in part.ids]).sort()
    assert ids.equal(torch.arange(len(index))), "every video exactly once"
    decoded = ~torch.cat([part.failed for part in parts])[order]
    failures = [failure for part in parts for failure in part.failures]
    features, ok = {}, {}
    broken: dict[int, list[str]] = {}
    for name in next(iter(parts)).rows:
        rows = torch.cat([part.rows[name] for part in parts])[order]
        # The length too: a row whose length overflows would become a row of zeros when it is normalised.
        finite = rows.norm(dim=-1).isfinite().reshape(len(rows), -1).all(dim=1)
        ok[name] = decoded & finite
        if bool(decoded.any()) and not bool(ok[name].any()):
            raise VidsslError(
                f"{source}: the features of {name!r} are finite for none of the {counted(len(index), 'video')}"
            )
        rows[~ok[name]] = 0
        features[name] = rows
        for video in (decoded & ~finite).nonzero()[:, 0].tolist():
            broken.setdefault(video, []).append(name)
    for video, names in broken.items():
        reason = f"features are not finite ({', '.join(names)})"
        failures.append(FailedVideo(video, str(index.path(video)), reason))
    failures.sort(key=lambda failure: failure.video_id)
    short = int((torch.cat([part.short for part in parts])[order] & decoded).sum())
    views = [part.shown for part in parts if part.shown is not None]
    shown = torch.cat(views)[order] if views else torch.ones(0, 0, dtype=torch.bool)
    return FeatureSet(features, ok, tuple(failures), short, shown, sum(part.read for part in parts))
