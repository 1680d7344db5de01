"""Questions put to features by a linear probe, and how much two of the answers differ.

Every video is answered by a probe that was fitted without it: on other videos where there are some to fit on, else on the other folds of
the videos, those of one recorded group together. The penalty is one for all, so that what differs between two answers is what was shown.

Answers of one probe to videos that it never saw are independent, and Wilson's interval is right for them. Those of folds are not quite:
of features that know nothing the accuracy scattered 20 % wider (docs/evaluation.md).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from vidssl.errors import VidsslError, counted
from vidssl.evaluation.comparison import mcnemar_exact
from vidssl.evaluation.metrics import Score, group_interval, wilson_interval
from vidssl.evaluation.probes.logistic import fit_logistic

FOLDS, PENALTY = 4, 0.1


class Known(NamedTuple):
    """What a probe is fitted to: rows (M, D), their labels (M,), and which of them have features (M,)."""

    rows: Tensor
    labels: Tensor
    ok: Tensor


def fold_of(labels: Tensor, groups: Tensor, seed: int = 0) -> Tensor:
    """(N,) in [0, FOLDS): each class is spread over the folds, and a group is in one.

    Raises:
        VidsslError: for fewer than two groups.
    """
    first = {int(group): int(label) for group, label in zip(groups.flip(0), labels.flip(0), strict=True)}
    names = np.array(sorted(first))
    if len(names) < 2:
        raise VidsslError(
            "temporal: one video, or group of videos: a probe cannot be fitted without those it is to answer for"
        )
    order = names[np.random.default_rng(seed).permutation(len(names))]
    dealt = sorted(order.tolist(), key=lambda name: first[name])  # stable: random within a class
    number = {name: place % FOLDS for place, name in enumerate(dealt)}
    return torch.tensor([number[int(group)] for group in groups])


def fitted_logits(fit: Known, rows: Tensor, ok: Tensor, classes: int) -> Tensor:
    """(N, K) float64 scores of each row by a probe fitted to other videos; nan where a row is not ok, and for all where none was."""
    logits = torch.full((len(rows), classes), torch.nan, dtype=torch.float64)
    if bool(ok.any()) and bool(fit.ok.any()):
        logits[ok] = fit_logistic(fit.rows[fit.ok], fit.labels[fit.ok], classes, PENALTY)(rows[ok]).cpu()
    return logits


def held_out_logits(rows: Tensor, labels: Tensor, ok: Tensor, fold: Tensor, classes: int) -> Tensor:
    """(N, K) float64 scores of each row by a probe fitted to those of the other folds that are ok; nan where a row is not."""
    logits = torch.full((len(rows), classes), torch.nan, dtype=torch.float64)
    for number in fold.unique():
        test = fold == number
        logits[test] = fitted_logits(Known(rows, labels, ok & ~test), rows[test], ok[test], classes)
    return logits


def right_answers(logits: Tensor, labels: Tensor) -> Tensor:
    """(N,) float64: 1 where the true class has the highest score, 1/n where n classes share it, 0 otherwise and for nan.

    Equal features thus score chance: they are no error, and no knowledge.
    """
    best = logits.amax(dim=1, keepdim=True)
    shared = logits >= best - 1e-9 * best.abs().clamp(min=1)
    hit = shared.gather(1, labels[:, None])[:, 0]
    return torch.where(hit, 1 / shared.sum(dim=1).clamp(min=1).double(), 0.0)


def versions(first: Tensor, second: Tensor, ok: Tensor) -> Known:
    """(N, D) features of N videos shown in two ways, one behind the other, labelled by the way."""
    return Known(torch.cat([first, second]), torch.arange(2).repeat_interleave(len(first)), ok.repeat(2))


def telling_apart(asked: Known, groups: Tensor, seed: int = 0, fit: Known | None = None) -> Tensor:
    """(N,) of how many of the two `versions` of a video a probe can say which it is: 0, 1/2 or 1.

    Args:
        groups: (N,) integers, for folds where there is no `fit`, versions of other videos.
    """
    if fit is None:
        fold = fold_of(torch.zeros_like(groups), groups, seed).repeat(2)
        logits = held_out_logits(*asked, fold, 2)
    else:
        logits = fitted_logits(fit, asked.rows, asked.ok, 2)
    return right_answers(logits, asked.labels).reshape(2, -1).mean(dim=0)


def naming_classes(
    asked: Known, groups: Tensor, classes: int, seed: int = 0, fit: Known | None = None
) -> Tensor:
    """(N,) whether a probe names the class of a video, see `right_answers`; `fit` as above."""
    if fit is None:
        logits = held_out_logits(*asked, fold_of(asked.labels, groups, seed), classes)
    else:
        logits = fitted_logits(fit, asked.rows, asked.ok, classes)
    return right_answers(logits, asked.labels)


def score_of(right: Tensor, ok: Tensor, groups: Tensor, seed: int = 0) -> Score:
    """Accuracy with its interval of 95 %: Wilson's where each video is right or wrong for itself, else over resamples of the groups.

    Args:
        right: (N,) as above. ok: (N,) bool; others are wrong, and counted.
    """
    units = len(groups.unique())
    alone = units == len(right) and bool(((right == 0) | (right == 1)).all())
    return {
        "top1": right.mean().item(),
        "top1_interval": wilson_interval(int(right.sum()), units)
        if alone
        else group_interval(right, groups, seed),
        "interval_over": counted(units, "video" if units == len(right) else "group"),
        "total": len(right),
        "failed": int((~ok).sum()),
    }


def gap(to: str, first: Tensor, second: Tensor, groups: Tensor, seed: int = 0) -> dict[str, Any]:
    """The difference of two accuracies over the same videos, with its interval over resamples of the groups and a sign test.

    Args:
        to: what the second is called.
    """
    only_first, only_second = int((first > second).sum()), int((second > first).sum())
    return {
        "to": to,
        "difference": (first - second).mean().item(),
        "interval": group_interval(first - second, groups, seed),
        "only_first": only_first,
        "only_second": only_second,
        "p": mcnemar_exact(only_first, only_second),
        "seed": seed,
    }
