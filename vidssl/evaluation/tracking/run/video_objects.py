"""Task ``vos``: the mask of the first frame, carried along the video."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.masks import boundary_f, region_similarity, sequence_statistics
from vidssl.evaluation.tracking.propagation import propagate
from vidssl.evaluation.tracking.run.features import grid_of, sequence_features
from vidssl.evaluation.tracking.run.maps import labels_on, mask_from
from vidssl.evaluation.tracking.run.options import TrackOptions, hand_drawn
from vidssl.evaluation.tracking.run.sources import COPY, Source
from vidssl.evaluation.tracking.run.task import Scores, Tracked
from vidssl.evaluation.tracking.sequence import Mask, Sequence


class VideoObjects:
    """Masks through a sequence.

    An object that is first seen later on is carried along from that frame, over whatever is there. Its first frame is not scored,
    and, as in DAVIS, neither is the last one of a sequence that has a map in every frame.
    """

    metrics = ("J&F", "J", "F", "J recall", "F recall", "J decay", "F decay")
    counts: frozenset[str] = frozenset()

    def __init__(self, options: TrackOptions) -> None:
        self._options = options

    def lacks(self, sequence: Sequence) -> str | None:
        if self._options.box is not None:
            return None
        if sequence.masks is None:
            return f"no masks; {hand_drawn(sequence.size)}"
        return None if sequence.masks[0] is not None else "no mask of its first frame"

    def unscored(self, sequence: Sequence) -> str | None:
        if self._options.box is not None:
            return "a box drawn by hand"
        if sequence.masks_introduce:
            return "masks only where objects start"
        return None

    def follow(self, source: Source, sequence: Sequence) -> Tracked:
        starts = self._starts(sequence)
        preset, size = self._options.preset, sequence.size
        grid = grid_of(sequence, source.stride, self._options.size)
        features = sequence_features(source, sequence, self._options.size)
        maps = [np.zeros(size, dtype=np.int32) for _ in range(len(sequence))]
        objects = lost = 0
        for start, mask in starts.items():
            ids = _ids(mask)
            labels = labels_on(mask, ids, grid, preset).to(features.device)
            maps[start] = np.where(mask > 0, mask, maps[start])
            objects, lost = objects + len(ids), lost + int((labels.amax((1, 2)) == 0).sum())
            if start + 1 == len(sequence):
                continue
            soft = propagate(features[start:], labels, preset)
            for frame in range(start + 1, len(sequence)):
                found = mask_from(soft[frame - start], ids, grid, size, preset)
                maps[frame] = np.where(found > 0, found, maps[frame])
        remark = f"{lost} of {objects} objects have no cell of their own at this stride and size, and are lost at once"
        return Tracked(masks=lambda frame: maps[frame], remark=remark if lost else None)

    def plain(self, sequence: Sequence) -> dict[str, Tracked]:
        return {COPY: Tracked(masks=_copied(self._starts(sequence)))}

    def score(self, tracked: Tracked, sequence: Sequence) -> list[Scores]:
        assert tracked.masks is not None
        assert sequence.masks is not None
        given = [frame for frame in range(len(sequence)) if sequence.masks[frame] is not None]
        last = 1 if len(given) == len(sequence) > 2 else 0
        scores: dict[int, list[tuple[float, float]]] = {}
        first: dict[int, int] = {
            name: start for start, mask in self._starts(sequence).items() for name in _ids(mask)
        }
        for frame in given[1 : len(given) - last]:
            true, found = sequence.masks[frame], tracked.masks(frame)
            assert true is not None
            assert found is not None
            for name in first:
                if frame > first[name]:
                    pair = found == name, true == name
                    scores.setdefault(name, []).append((region_similarity(*pair), boundary_f(*pair)))
        return [self._statistics(np.array(values)) for values in scores.values()]

    def truth(self, sequence: Sequence) -> Tracked:
        masks = sequence.masks
        return Tracked(masks=None if masks is None or self._options.box else masks.__getitem__)

    def _statistics(self, values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> Scores:
        j, f = (sequence_statistics(column) for column in values.T)
        pairs = (value for pair in zip(j, f, strict=True) for value in pair)
        return dict(zip(self.metrics, ((j[0] + f[0]) / 2, *pairs), strict=True))

    def _starts(self, sequence: Sequence) -> dict[int, Mask]:
        """Frame -> the map of the objects that are first seen in it.

        Raises:
            VidsslError: a first frame without an object, or a map of another size than the frames.
        """
        if self._options.box is not None:
            return {0: self._boxed(sequence)}
        assert sequence.masks is not None
        starts: dict[int, Mask] = {}
        seen = {0}
        for frame in range(len(sequence)):
            mask = sequence.masks[frame]
            if mask is None:
                continue
            if mask.shape != sequence.size:
                raise VidsslError(
                    f"{sequence.name}: the mask of frame {frame} has {mask.shape[1]} x {mask.shape[0]} pixels, "
                    f"the frames {sequence.size[1]} x {sequence.size[0]}"
                )
            new = set(_ids(mask)) - seen
            if frame == 0 and not new:
                raise VidsslError(f"{sequence.name}: the mask of its first frame is empty")
            if new:
                starts[frame] = np.where(np.isin(mask, list(new)), mask, 0)
                seen |= new
        return starts

    def _boxed(self, sequence: Sequence) -> Mask:
        assert self._options.box is not None
        x, y, w, h = (round(value) for value in self._options.box)
        mask = np.zeros(sequence.size, dtype=np.int64)
        mask[max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1
        if not mask.any():
            raise VidsslError(
                f"{sequence.name}: the box {x},{y},{w},{h} lies outside of its {mask.shape[1]} x {mask.shape[0]} pixels"
            )
        return mask


def _ids(mask: Mask) -> list[int]:
    return [int(name) for name in np.unique(mask) if name]


def _copied(starts: Mapping[int, Mask]) -> Callable[[int], Mask]:
    def labels(frame: int) -> Mask:
        maps: Iterator[Mask] = (mask for start, mask in starts.items() if start <= frame)
        copied = next(maps)
        for mask in maps:
            copied = np.where(mask > 0, mask, copied)
        return copied

    return labels
