from __future__ import annotations

import numpy as np
import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.evaluation.temporal.questions import (
    FOLDS,
    Known,
    fold_of,
    gap,
    held_out_logits,
    naming_classes,
    right_answers,
    score_of,
    telling_apart,
    versions,
)

N = 48
ALONE = torch.arange(N)
FINE = torch.ones(N, dtype=torch.bool)


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_what_is_equal_is_told_apart_by_chance_and_what_differs_always() -> None:
    rows = noise(0, N, 5)
    assert telling_apart(versions(rows, rows.clone(), FINE), ALONE).tolist() == [0.5] * N
    assert telling_apart(versions(rows, rows + 50, FINE), ALONE).tolist() == [1.0] * N
    unrelated = telling_apart(versions(rows, noise(1, N, 5), FINE), ALONE)
    assert abs(unrelated.mean().item() - 0.5) < 0.2


def test_versions_of_a_video_and_videos_of_a_group_are_never_on_both_sides() -> None:
    """Features that are the name of the group: a probe that had seen one video of a group would know the others."""
    groups = torch.arange(N) // 4
    names = torch.eye(N // 4)[groups]
    labels = (torch.arange(N // 4) % 2)[groups]
    seen = naming_classes(Known(names, labels, FINE), ALONE, 2)
    unseen = naming_classes(Known(names, labels, FINE), groups, 2)
    assert seen.mean() == 1.0 and abs(unseen.mean().item() - 0.5) < 0.35
    fold = fold_of(labels, groups)
    assert all(len(fold[groups == group].unique()) == 1 for group in groups.unique())
    counts = [torch.bincount(labels[fold == number], minlength=2).tolist() for number in range(FOLDS)]
    assert max(map(max, counts)) - min(map(min, counts)) <= 4  # one group of four


def test_every_video_is_answered_by_a_probe_without_it() -> None:
    """Labels drawn at random: a probe that has seen a video of 200 dimensions knows it by heart, and nothing of the others."""
    rows, labels = noise(2, N, 200), torch.from_numpy(np.random.default_rng(3).integers(0, 2, N))
    assert 0.2 < naming_classes(Known(rows, labels, FINE), ALONE, 2).mean() < 0.8


def test_other_videos_to_fit_on_are_all_that_a_probe_sees() -> None:
    """Of those that are asked a probe would know each by heart; fitted to labels the wrong way round it is always wrong."""
    labels = torch.arange(N) % 2
    rows = noise(5, N, 3) + 20 * labels[:, None]
    other, ok = torch.arange(30) % 2, torch.ones(30, dtype=torch.bool)
    ok[0] = False
    fit = Known(noise(6, 30, 3) + 20 * other[:, None], other, ok)
    fit.rows[0] = torch.nan
    asked = Known(rows, labels, FINE)
    assert naming_classes(asked, ALONE, 2, fit=fit).tolist() == [1.0] * N
    assert naming_classes(asked, ALONE, 2, fit=fit._replace(labels=1 - other)).tolist() == [0.0] * N
    shown, backwards = versions(rows, rows + 50, FINE), versions(rows[:9] + 50, rows[:9], FINE[:9])
    assert telling_apart(shown, ALONE, fit=versions(rows[:9], rows[:9] + 50, FINE[:9])).tolist() == [1.0] * N
    assert telling_apart(shown, ALONE, fit=backwards).tolist() == [0.0] * N
    nothing = fit._replace(ok=torch.zeros_like(ok))
    assert naming_classes(asked, ALONE, 2, fit=nothing).tolist() == [0.0] * N


def test_videos_that_are_not_ok_are_neither_learned_from_nor_right() -> None:
    rows, labels, ok = noise(4, N, 3), torch.arange(N) % 2, FINE.clone()
    rows[labels == 1] += 20
    ok[:6] = False
    rows[:6] = torch.nan
    right = naming_classes(Known(rows, labels, ok), ALONE, 2)
    assert right[:6].tolist() == [0.0] * 6 and right[6:].tolist() == [1.0] * (N - 6)
    assert held_out_logits(rows, labels, ok, fold_of(labels, ALONE), 2)[:6].isnan().all()
    score = score_of(right, ok, ALONE)
    assert score["failed"] == 6 and score["total"] == N and score["top1"] == pytest.approx((N - 6) / N)
    assert score["top1_interval"][0] < score["top1"] < score["top1_interval"][1]


def test_intervals_are_of_videos_or_of_groups_and_all_right_is_not_certain() -> None:
    from vidssl.evaluation.metrics import group_interval, wilson_interval

    right, halves, groups = torch.ones(N).double(), torch.full((N,), 0.5).double(), torch.arange(N) // 4
    assert score_of(right, FINE, ALONE)["top1_interval"] == wilson_interval(N, N)
    assert score_of(right, FINE, ALONE)["interval_over"] == f"{N} videos"
    assert score_of(halves, FINE, ALONE)["top1_interval"] == (
        0.5,
        0.5,
    )  # equal features: no video can say more
    mixed = (torch.arange(N) % 3 == 0).double()
    grouped = score_of(mixed, FINE, groups)
    assert (
        grouped["top1_interval"] == group_interval(mixed, groups)
        and grouped["interval_over"] == f"{N // 4} groups"
    )


def test_a_tie_is_chance() -> None:
    logits = torch.tensor(
        [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 2.0, 2.0], [torch.nan] * 3, [3.0, 1.0, 0.0]]
    )
    assert right_answers(logits.double(), torch.zeros(5, dtype=torch.int64)).tolist() == pytest.approx(
        [1 / 2, 1 / 3, 0, 0, 1]
    )


def test_a_gap_is_of_the_same_videos() -> None:
    first, second = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.0] * 8), torch.tensor([1.0, 0.0, 0.5, 0.5, 1.0] * 8)
    record = gap("less", first, second, torch.arange(40))
    assert record["difference"] == pytest.approx(0.1) and (record["only_first"], record["only_second"]) == (
        16,
        8,
    )
    draws = np.random.default_rng(1).integers(0, 40, (20_000, 40))
    low, high = np.quantile((first - second).numpy()[draws].mean(1), [0.025, 0.975])
    assert record["interval"] == pytest.approx((low, high), abs=0.02)
    assert gap("same", first, first, torch.arange(40))["interval"] == (0.0, 0.0)


def test_one_video_cannot_be_asked() -> None:
    with pytest.raises(VidsslError, match="one video, or group"):
        fold_of(torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
