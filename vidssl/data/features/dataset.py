"""Training batches of kept features: random windows in time, and of each view one of the draws that were kept.

Frames are chosen as in `ClipDataset`, by their times and with the same draws, keyed by (seed, visit, video, view) alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Generator, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from vidssl.data.clips import ClipIndices, frame_period, random_window
from vidssl.data.dataset import shown_frames
from vidssl.data.features.batch import FeatureBatch
from vidssl.data.features.store import FeatureStore
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import Key
from vidssl.data.rng import Purpose, stream
from vidssl.data.views.spec import ViewSpec, expand_views


class FeatureDataset:
    """Samples of kept features.

    Args:
        store: the features.
        views: of which frames, seconds or stride (in frames that were kept), drop_p, reverse_p and hide_p count; the rest
            was decided when the features were made.
        window_seconds: length of the window in which all views of a sample lie; None for the whole video.
        seed: of all draws.
    """

    def __init__(
        self, store: FeatureStore, views: Sequence[ViewSpec], *, window_seconds: float | None, seed: int = 0
    ) -> None:
        self.store, self.views, self.seed = store, expand_views(views), seed
        self.window_seconds = window_seconds or math.inf

    @property
    def videos(self) -> VideoIndex:
        """Those that have features."""
        return self.store.index

    def __len__(self) -> int:
        return len(self.store.index)

    def batches(self, sampler: Iterable[Sequence[Key]]) -> Generator[FeatureBatch, None, None]:
        """The batch of each list of keys."""
        for keys in sampler:
            yield self.batch(keys)

    def batch(self, keys: Sequence[Key]) -> FeatureBatch:
        """The samples of some (visit, video)."""
        samples = [self._clips(key) for key in keys]
        size = self.store.rows(0).shape[2]
        shapes = [(spec.frames, size) for spec in self.views]
        room = {
            shape: iter(torch.empty((count, len(keys), *shape)).unbind())
            for shape, count in Counter(shapes).items()
        }
        views = [next(room[shape]) for shape in shapes]
        for place, ((visit, video), clips) in enumerate(zip(keys, samples, strict=True)):
            rows = self.store.rows(video)
            order = stream(self.seed, Purpose.SPACE, visit, video).permutation(len(rows))
            for number, (view, clip) in enumerate(zip(views, clips, strict=True)):
                draw = rows[int(order[number % len(order)])]
                view[place].copy_(draw[torch.from_numpy(clip.indices)])
                if hidden := self.views[number].hide_p:
                    drawn = stream(self.seed, Purpose.SPACE, visit, video, number + 1).random(size)
                    view[place].mul_(torch.from_numpy((drawn >= hidden) / np.float32(1 - hidden)))
        times = [_times([clips[number] for clips in samples]) for number in range(len(self.views))]
        return FeatureBatch(views, times, torch.tensor([video for _, video in keys]))

    def _clips(self, key: Key) -> list[ClipIndices]:
        """The frames of every view of one sample."""
        times = self.store.times[key[1]]
        period = frame_period(times)
        window = random_window(times, self.window_seconds, stream(self.seed, Purpose.WINDOW, *key), period)
        return [
            shown_frames(times, spec, stream(self.seed, Purpose.TIME, *key, number), window, period)
            for number, spec in enumerate(self.views)
        ]


def _times(clips: Sequence[ClipIndices]) -> Tensor:
    return torch.stack([torch.from_numpy(clip.times).float() for clip in clips])
