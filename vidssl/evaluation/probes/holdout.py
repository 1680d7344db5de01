"""Which training videos are held out to choose by: some of every class, and those that were recorded together stay together."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def stratified_split(
    labels: Tensor, fraction: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Row numbers of a (kept, held-out) split that holds out `fraction` of every class.

    At least one row of a class with two or more is held out, and none of a class with one.
    """
    kept, held_out = [], []
    for label in labels.unique().tolist():
        rows = (labels == label).nonzero()[:, 0].numpy()
        rows = rows[generator.permutation(len(rows))]
        count = min(max(round(fraction * len(rows)), 1), len(rows) - 1)
        held_out.append(rows[:count])
        kept.append(rows[count:])
    first, second = (torch.from_numpy(np.sort(np.concatenate(rows))) for rows in (kept, held_out))
    return first, second


def grouped_split(
    labels: Tensor, groups: Tensor, fraction: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """As `stratified_split`, but the rows of a group stay together, so that only about `fraction` of a class is held out.

    Of a class in two or more groups at least one group is held out and one kept, as far as the other classes of its
    groups allow, and none of a class in one group.

    Args:
        groups: (N,) integers, equal for rows of one group, which may be of several classes.
    """
    label, group = labels.numpy(), groups.numpy()
    total, held = np.bincount(label), np.zeros(int(label.max()) + 1, dtype=int)
    out: set[int] = set()

    def hold_out(number: int) -> None:
        classes, counts = np.unique(label[group == number], return_counts=True)
        if number not in out and (held[classes] + counts < total[classes]).all():
            out.add(number)
            held[classes] += counts

    for this in np.unique(label):
        numbers, sizes = np.unique(group[label == this], return_counts=True)
        order, target = generator.permutation(len(numbers)), fraction * total[this]
        for number, size in zip(numbers[order], sizes[order], strict=True):
            if held[this] + size / 2 <= target:  # brings the class nearer to its fraction
                hold_out(int(number))
        for number in numbers[order][np.argsort(sizes[order], kind="stable")]:
            if held[this] == 0:
                hold_out(int(number))
    is_out = torch.from_numpy(np.isin(group, list(out)))
    return (~is_out).nonzero()[:, 0], is_out.nonzero()[:, 0]
