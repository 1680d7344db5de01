"""Probes of the real-video benchmark on features that are known: what is there is found, what is not is at chance."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.is_dir():
    pytest.skip("the benchmarks are not part of what is installed", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

from real_videos.further import (  # noqa: E402
    DIRECTION,
    DRAWS,
    ORDER,
    SHOTS,
    attentive,
    beside,
    few_labels,
    image_readers,
    time_questions,
)
from real_videos.sets import Set  # noqa: E402

DIM, CELLS, FRAMES = 6, 4, 8


def videos(classes: int = 3, each: int = 24, shuffled: bool = False) -> Set:
    """Rows whose cells move by their class, and whose features rise over time and know no class."""
    generator = torch.Generator().manual_seed(0)

    def part() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        labels = torch.arange(classes).repeat(each)
        n = len(labels)
        rows = 0.1 * torch.randn(n, FRAMES, DIM + CELLS, generator=generator)
        rows[..., :DIM] += torch.linspace(0, 1, FRAMES)[:, None]
        rows[..., DIM:] *= 1 + 20 * torch.eye(CELLS)[labels][:, None]  # cell k moves where the class is k
        if shuffled:
            labels = labels[torch.randperm(n, generator=generator)]
        return rows, labels, torch.arange(n) // 3

    (fit, labels, fit_groups), (test, truth, groups) = part(), part()
    return Set(fit, labels, fit_groups, test, truth, groups, tuple("abc"[:classes]), DIM)


def side_by_side(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return rows[..., :DIM].flatten(1), rows[..., :DIM]


def share(found: str) -> float:
    return found.count("1") / len(found)


def test_what_moves_is_found_with_few_labels_and_what_does_not_is_at_chance() -> None:
    of = videos()
    grid, mean = (few_labels(image_readers(of)[name], of, 0) for name in ("its grid", "image model"))
    assert list(grid) == [str(shots) for shots in SHOTS]
    assert all(len(draws) == DRAWS for draws in grid.values())
    assert min(grid["16"]) > 0.95 and max(mean["16"]) < 0.6
    assert sum(grid["1"]) < sum(grid["16"])
    assert few_labels(image_readers(of)["its grid"], of, 0) == grid  # the same draws for all that are asked


def test_labels_that_say_nothing_leave_every_probe_at_chance() -> None:
    of = videos(shuffled=True)
    grid = image_readers(of)["its grid"]
    assert share(beside(grid, of)) < 0.55
    assert max(few_labels(grid, of, 0)["16"]) < 0.6


def test_a_head_and_the_grid_are_asked_together() -> None:
    of = videos()
    assert share(beside(image_readers(of)["image model"], of)) > 0.95  # of the grid, whatever the head


def test_attention_over_frames_finds_what_differs_between_them() -> None:
    of = videos(each=48)

    wide = torch.randn(CELLS, 64, generator=torch.Generator().manual_seed(1))

    def liveliness(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        frames = rows[..., DIM:].abs() @ wide
        return frames.mean(1), frames

    assert share(attentive(liveliness, of, 0)) > 0.9
    assert share(attentive(image_readers(of)["image model"], of, 0)) < 0.6


def test_order_and_direction_are_told_by_what_sees_them_alone() -> None:
    of = videos()
    for question in (ORDER, DIRECTION):
        assert set(time_questions(image_readers(of)["image model"], of, 0)[question]) == {"1"}  # one of two
        seen = time_questions(side_by_side, of, 0)[question]
        assert sum(map(int, seen)) > 1.9 * len(seen)
