from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.evaluation.tracking.drawn import square_frame
from tests.evaluation.tracking.run.sources import broken, colours, source
from vidssl.evaluation.tracking.run import features as module
from vidssl.evaluation.tracking.run.features import each_frame, grid_of, sequence_features, shown_size
from vidssl.evaluation.tracking.run.sources import NotFiniteError
from vidssl.evaluation.tracking.sequence import Lazy, Sequence


def sequence(count: int) -> Sequence:
    return Sequence("s", Lazy(count, lambda t: square_frame(t % 5)))


PIECE = 4


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIXELS", PIECE * 64 * 80)


def test_features_in_pieces_are_those_of_the_whole() -> None:
    many = sequence(PIECE + 3)
    found = sequence_features(source(), many, None)
    torch.testing.assert_close(found, colours(many.clip()))
    torch.testing.assert_close(torch.stack([*each_frame(source(), many, None)]), found)


def test_a_piece_is_shown_the_frames_before_it() -> None:
    """Features that add up three frames would differ at the first frame of the second piece."""

    def summed(frames: Tensor) -> Tensor:
        own = colours(frames)
        padded = torch.cat([own[:1], own[:1], own])
        return padded[:-2] + padded[1:-1] + padded[2:]

    many = sequence(2 * PIECE + 1)
    found = sequence_features(source(features=summed, before=2), many, None)
    torch.testing.assert_close(found, summed(many.clip()))


@pytest.mark.parametrize(
    ("size", "short", "shown"),
    [((64, 80), None, (64, 80)), ((64, 80), 32, (32, 40)), ((90, 60), 30, (45, 30))],
)
def test_the_short_side_is_what_was_asked_for(
    size: tuple[int, int], short: int | None, shown: tuple[int, int]
) -> None:
    assert shown_size(size, short) == shown


def test_the_grid_says_where_cells_lie_on_the_frames_as_they_are() -> None:
    grid = grid_of(sequence(2), 4, 32)  # 64 x 80 shown as 32 x 40
    assert grid.size == (8, 10) and grid.cell == (8, 8)
    assert sequence_features(source(), sequence(2), 32).shape == (2, 12, 8, 10)
    odd = Sequence("odd", Lazy(2, lambda t: np.zeros((30, 33, 3), np.uint8)))
    assert grid_of(odd, 4, None).size == (8, 9)
    assert sequence_features(source(), odd, None).shape == (2, 12, 8, 9)


def test_features_that_are_not_finite_are_named() -> None:
    with pytest.raises(NotFiniteError, match="s: features of encoder are not finite"):
        sequence_features(source(features=broken), sequence(3), None)
