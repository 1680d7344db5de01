"""Ranks and recalls against brute force, and inputs that must find nothing."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
import torch

from vidssl.evaluation.metrics import group_interval
from vidssl.evaluation.ranks import chance_recalls, first_ranks, recall_scores
from vidssl.evaluation.retrieval import _units


def brute(queries, gallery, wanted, there, alone):
    ranks = []
    for i, (q, w) in enumerate(zip(queries, wanted, strict=True)):
        similarity = [
            (q @ g / np.linalg.norm(q) / np.linalg.norm(g), label)
            for j, (g, label) in enumerate(zip(gallery, there, strict=True))
            if not (alone and i == j)
        ]
        right = [s for s, label in similarity if label == w]
        ranks.append(sum(s >= max(right) for s, label in similarity if label != w) if right else len(gallery))
    return ranks


@pytest.mark.parametrize("alone", [True, False])
def test_ranks_are_those_of_brute_force(alone):
    rng = np.random.default_rng(0)
    gallery, there = rng.normal(size=(30, 5)), rng.integers(6, size=30)
    queries, wanted = (gallery, there) if alone else (rng.normal(size=(13, 5)), rng.integers(8, size=13))
    found = first_ranks(
        *map(torch.from_numpy, (queries, gallery, wanted, there)),
        torch.arange(30) if alone else None,
        chunk=4,
    )
    assert found.tolist() == brute(queries, gallery, wanted, there, alone)


def test_constant_features_and_those_that_are_not_finite_find_nothing():
    rows, numbers = torch.ones(6, 3), torch.arange(6) % 3
    score = recall_scores(first_ranks(rows, rows, numbers, numbers, torch.arange(6)), torch.ones(6).bool())
    assert score["R@1"] == 0 and score["median_rank"] == 5
    rows = torch.randn(6, 3)
    rows[2] = torch.nan
    ranks = first_ranks(rows, rows, torch.arange(6), torch.arange(6))
    assert ranks.tolist() == [0, 0, 6, 0, 0, 0]
    assert recall_scores(ranks, torch.tensor([True] * 5 + [False]))["R@1"] == pytest.approx(4 / 6)


def test_several_sentences_of_a_video_are_each_right_and_any_of_them_is_found():
    videos = torch.eye(3)
    texts = torch.tensor([[1.0, 0.1, 0], [0.9, 1, 0], [0, 1, 0], [0, 0, 1]])
    of = torch.tensor([0, 0, 1, 2])
    assert first_ranks(texts, videos, of, torch.arange(3)).tolist() == [0, 1, 0, 0]
    assert first_ranks(videos, texts, torch.arange(3), of).tolist() == [0, 0, 0]


def test_recalls_and_their_chance():
    score = recall_scores(torch.tensor([0, 4, 9, 60]), torch.ones(4).bool())
    assert [score[f"R@{k}"] for k in (1, 5, 10, 20, 50)] == [0.25, 0.5, 0.75, 0.75, 0.75]
    assert score["rsum"] == pytest.approx(150) and score["median_rank"] == 7.5
    chance = chance_recalls(torch.tensor([1, 3]), 12)
    for k in (1, 5, 10):
        expected = np.mean([1 - comb(12 - n, k) / comb(12, k) for n in (1, 3)])
        assert chance[f"R@{k}"] == pytest.approx(expected)
    assert chance["R@50"] == 1 and chance_recalls(torch.tensor([0]), 12)["R@50"] == 0


def test_the_interval_is_over_groups_where_queries_belong_together():
    """Ten queries of each of four videos, all alike: the interval is that of four, not of forty."""
    ranks = torch.tensor([0, 3, 0, 3]).repeat_interleave(10)
    groups, ok = torch.arange(4).repeat_interleave(10), torch.ones(40).bool()
    alone, together = (recall_scores(ranks, ok, one)["R@1_interval"] for one in (None, groups))
    assert alone[0] > 0.3 and together == (0.0, 1.0)
    assert together == group_interval(ranks < 1, groups)


def test_sentences_of_a_video_and_videos_of_a_recording_are_one_unit():
    assert _units(torch.arange(3), ()) is None and _units(torch.arange(3), ["a", "b"]) is None
    assert _units(torch.tensor([0, 0, 1]), ["b", "a", "b"]).tolist() == [0, 0, 1, 3, 4, 3]
