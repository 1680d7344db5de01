"""Which training videos are held out to choose by: some of every class, and those that were recorded together stay together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from vidssl.errors import VidsslError

Rows = tuple[Tensor, Tensor]  # (n, D) features and (n,) labels


def held_out_parts(
    features: Tensor,
    labels: Tensor,
    groups: Tensor | None,
    *,
    repeats: int = 1,
    seed: int = 0,
    held_out: Rows | None = None,
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Rows to fit and rows to choose by, each with their labels: a held-out fifth, or the rows that are given.

    Args:
        features: (N, D). labels: (N,). groups: see `grouped_split`; None: every row for itself.
        repeats: so many held-out fifths, drawn from `seed`.
        held_out: rows and labels to choose by, instead of fifths of these.

    Raises:
        VidsslError: when no class has two rows, or groups, so that nothing can be held out.
    """
    if held_out is not None:
        yield features, labels, *held_out
        return
    generator = np.random.default_rng(seed)
    for _ in range(repeats):
        kept, out = split_rows(labels, groups, generator)
        if not len(out):
            what = "video" if groups is None else "group of videos"
            raise VidsslError(f"probe: every class has one readable training {what}; none can be held out")
        fit, fit_labels, test, test_labels = (
            rows[part.to(rows.device)] for part in (kept, out) for rows in (features, labels)
        )
        yield fit, fit_labels, test, test_labels


def split_rows(
    labels: Tensor, groups: Tensor | None, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Row numbers of a (kept, held-out) split, a fifth of every class held out, groups kept together."""
    if groups is None:
        return stratified_split(labels.cpu(), 0.2, generator)
    return grouped_split(labels.cpu(), groups, 0.2, generator)


def can_hold_out(labels: Tensor, groups: Tensor | None) -> bool:
    """Whether any class has two rows, or groups, one of which can be held out."""
    return len(split_rows(labels, groups, np.random.default_rng(0))[1]) > 0


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
