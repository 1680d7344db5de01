"""Which videos make up which batch: a stateless function of the seed and the step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.utils.data import Sampler

from vidssl.data.mixture import Mixture
from vidssl.errors import VidsslError, check_value

# (visit, index of the video): which time it is that a clip of this video is taken. Visit v belongs to epoch v // repeats.
Key = tuple[int, int]


@dataclass(eq=False)
class GlobalBatchSampler(Sampler[list[Key]]):
    """Batches of keys; the global batch of a step does not depend on the number of processes.

    Every epoch is a permutation drawn from (seed, epoch), or what a `Mixture` of sets makes of it, in which every video
    stands `repeats` times in a row. Step s
    takes the s-th slice of `batch_size` keys and process r takes the r-th of `num_processes` equal parts of it, so the
    parts in rank order are exactly the batch of one process. Nothing is remembered between steps: `start_step=k` continues where a run stopped after k steps
    without looking at any earlier data. It needs no further sharding: do not let `accelerate` prepare its loader.

    Args:
        num_samples: number of videos.
        batch_size: GLOBAL batch size in clips, over all processes.
        repeats: clips of a video in a batch, which share one opening of the file (Hoffer et al. 2020, "Augment your
            batch"). A batch holds `batch_size / repeats` videos.
        mixture: how the videos of several sets are mixed; None shows every video once in an epoch.
        drop_last: True leaves the last videos of every epoch out that fill no batch. False lets a batch run
            over into the next epoch, so that nothing of an epoch is left out and all batches are full.
        start_step: first step to yield.
        total_steps: step to stop before, counted from 0 (not from start_step); None never stops.

    Raises:
        VidsslError: if the batch is larger than the data set or cannot be shared equally, or a number is out of range.
    """

    num_samples: int
    batch_size: int
    num_processes: int = 1
    rank: int = 0
    seed: int = 0
    drop_last: bool = True
    start_step: int = 0
    total_steps: int | None = None
    repeats: int = 1
    mixture: Mixture | None = None

    def __post_init__(self) -> None:
        size, processes, start, total = self.batch_size, self.num_processes, self.start_step, self.total_steps
        check_value("repeats", self.repeats, self.repeats >= 1, "at least 1")
        most = self.num_samples * self.repeats
        if not 1 <= size <= most:
            times = "" if self.repeats == 1 else f" times repeats={self.repeats}"
            raise VidsslError(
                f"batch_size={size}: must lie between 1 and the number of videos{times}, {most}"
            )
        is_shared = processes >= 1 and size % (processes * self.repeats) == 0
        allowed = f"a multiple of the number of processes, {processes}"
        allowed += "" if self.repeats == 1 else f", times repeats={self.repeats}"
        check_value("batch_size", size, is_shared, allowed)
        if not 0 <= self.rank < processes:
            raise VidsslError(f"rank={self.rank}: must lie between 0 and {processes - 1}")
        if start < 0 or (total is not None and total < start):
            raise VidsslError(f"start_step={start}: must lie between 0 and total_steps={total}")
        self._mixed = self.mixture or Mixture.of([self.num_samples])
        if sum(self._mixed.sizes) != self.num_samples:
            raise VidsslError(
                f"the mixture is of {sum(self._mixed.sizes)} videos, there are {self.num_samples}"
            )
        self._epoch = (0, *self._mixed.epoch(self.seed, 0))

    def batch(self, step: int) -> list[Key]:
        """This process's keys of one step."""
        share = self.batch_size // self.repeats // self.num_processes  # videos
        first = self._position(step) + self.rank * share
        return [key for position in range(first, first + share) for key in self._keys(position)]

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.start_step
        while self.total_steps is None or step < self.total_steps:
            yield self.batch(step)
            step += 1

    def __len__(self) -> int:
        if self.total_steps is None:
            raise TypeError("GlobalBatchSampler without total_steps never ends and has no length")
        return self.total_steps - self.start_step

    def _position(self, step: int) -> int:
        """Place of the step's first video in the concatenation of all permutations."""
        videos = self.batch_size // self.repeats
        if not self.drop_last:
            return step * videos
        per_epoch = self.num_samples // videos
        return step // per_epoch * self.num_samples + step % per_epoch * videos

    def _keys(self, position: int) -> list[Key]:
        epoch, place = divmod(position, self.num_samples)
        if self._epoch[0] != epoch:
            self._epoch = (epoch, *self._mixed.epoch(self.seed, epoch))
        visit, index = int(self._epoch[1][place]), int(self._epoch[2][place])
        return [(visit * self.repeats + repeat, index) for repeat in range(self.repeats)]
