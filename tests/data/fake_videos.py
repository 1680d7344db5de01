"""Videos of noise that need no file, data sets of them, and the comparison of two batches."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vidssl.data.batch import ClipBatch
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.reader import DecodeError
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.spec import ViewSpec

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


VIEWS = [
    ViewSpec("global", 2, 4, size=24, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5),
    ViewSpec("local", 3, 2, seconds=0.5, size=16, scale=(0.1, 0.4)),
]


@dataclass
class FakeReader:
    """A video of noise that is the same whenever it is opened; every frame can be told apart from every other one."""

    video_id: int
    calls: list[NDArray[np.int64]]
    fps: float = 25.0

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(30 + 7 * self.video_id) / self.fps

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.calls.append(indices)
        size = (40 + 3 * self.video_id, 56 - self.video_id, 3)
        rngs = (np.random.default_rng((self.video_id, int(i))) for i in indices)
        return np.stack([rng.integers(0, 256, size, dtype=np.uint8) for rng in rngs])

    def __enter__(self) -> FakeReader:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class FakeVideos:
    """`count` videos, some of which cannot be opened and some of which never finish; also the opener of them."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), endless: tuple[int, ...] = ()) -> None:
        self.count, self.broken, self.endless = count, broken, endless
        self.opened: list[int] = []
        self.calls: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return self.count

    @property
    def paths(self) -> list[str]:
        return [f"{i}.mp4" for i in range(self.count)]

    def path(self, i: int) -> Path:
        return Path(f"{i}.mp4")

    def part(self, i: int) -> None:
        """All are whole."""

    def timeline(self, i: int) -> None:
        """None is known."""

    def open(self, path: Path, *, timeline: object = None) -> FakeReader:
        video_id = int(path.stem)
        self.opened.append(video_id)
        while video_id in self.endless:
            time.sleep(0.01)
        if video_id in self.broken:
            raise DecodeError(path, "pyav", "moov atom\nnot found")
        return FakeReader(video_id, self.calls)


def dataset(videos: FakeVideos, **options: Any) -> ClipDataset:
    defaults: dict[str, Any] = {"window_seconds": 1.0, "decode_size": 36, "seed": 7}
    return ClipDataset(videos, VIEWS, opener=videos.open, **{**defaults, **options})


def sampler(num: int = 12, batch: int = 4, **options: Any) -> GlobalBatchSampler:
    return GlobalBatchSampler(num, batch, **{"seed": 7, "total_steps": 6, **options})


def tensors(batch: ClipBatch) -> list[Tensor]:
    fields = [field for draw in batch.draws for field in draw]
    return [batch.frames, batch.sizes, *batch.index, *batch.times, batch.video_id, *fields, batch.failed]


def same(a: ClipBatch, b: ClipBatch) -> bool:
    return a.failures == b.failures and all(
        torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True)
    )
