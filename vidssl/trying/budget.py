"""How much fits into some minutes: videos, draws of each and steps, from what a few videos and a step took."""

from __future__ import annotations

from typing import NamedTuple

FEWEST_STEPS, FEWEST_VIDEOS = 50, 8
ROUNDS = 2  # in which every video is shown to an encoder when it is measured: before and after


class Costs(NamedTuple):
    """Measured seconds: of a clip (decoding and the image model), and of a step of training."""

    clip: float
    step: float


class Schedule(NamedTuple):
    """What is done.

    Attributes:
        train, val: videos. draws: of each of `train`, besides the whole frame. steps: of training.
        seconds: of features, training and measuring.
    """

    train: int
    val: int
    draws: int
    steps: int
    seconds: tuple[float, float, float]

    @property
    def total(self) -> float:
        """Seconds."""
        return sum(self.seconds)

    def in_words(self) -> str:
        """For a person."""
        features, training, measuring = (f"{seconds / 60:.1f}" for seconds in self.seconds)
        return (
            f"about {self.total / 60:.1f} minutes from here: {features} for features of {self.train} videos in {1 + self.draws} draws, "
            f"{training} for {self.steps} steps of training, {measuring} for measuring on {self.val or self.train} videos"
        )


def fit(costs: Costs, train: int, val: int, draws: int, steps: int, minutes: float) -> Schedule:
    """The most of it that takes no longer than so many minutes, or the least there is.

    First there are fewer draws, then fewer steps, then fewer videos, of both parts alike.

    Args:
        costs: measured.
        train, val: videos there are. draws, steps: that are wanted.
        minutes: above 0.
    """
    budget = 60 * minutes
    for fewer in range(draws, 0, -1):
        if (found := _schedule(costs, train, val, fewer, steps)).total <= budget:
            return found
    few, rest = min(FEWEST_STEPS, steps), _schedule(costs, train, val, 1, 0).total
    if (left := int((budget - rest) / costs.step)) >= few:
        return _schedule(costs, train, val, 1, left)
    share = max(budget - few * costs.step, 0.0) / rest
    fewest = min(FEWEST_VIDEOS, train)
    kept = max(fewest, int(share * train))
    return _schedule(costs, kept, min(val, max(-(-val * kept // train), min(fewest, val))), 1, few)


def _schedule(costs: Costs, train: int, val: int, draws: int, steps: int) -> Schedule:
    seconds = (train * (1 + draws) * costs.clip, steps * costs.step, ROUNDS * (train + val) * costs.clip)
    return Schedule(train, val, draws, steps, seconds)
