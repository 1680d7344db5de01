from __future__ import annotations

import numpy as np
import pytest

from tests.evaluation.tracking.drawn import square_box, square_frame, square_mask
from vidssl.evaluation.tracking.run.drawing import colour_of, draw_frame, strip, strip_frames
from vidssl.evaluation.tracking.run.task import Tracked
from vidssl.evaluation.tracking.sequence import Lazy, Sequence

SEQUENCE = Sequence("s", Lazy(3, square_frame))
SCALE = 4  # 80 pixels wide, drawn at 320
NOTHING = Tracked()


def test_a_frame_with_nothing_on_it_is_itself_enlarged() -> None:
    drawn = draw_frame(SEQUENCE, 1, NOTHING, NOTHING)
    assert np.array_equal(drawn[::SCALE, ::SCALE], square_frame(1))


def test_a_mask_has_the_colour_of_its_object_and_the_truth_a_white_edge() -> None:
    tracked = Tracked(masks=lambda t: square_mask(t, number=2).astype(np.int64))
    drawn = draw_frame(SEQUENCE, 0, tracked, NOTHING)
    x, y, w, h = (SCALE * side for side in square_box(0))
    inside = (y + h // 2, x + w // 2)
    under = square_frame(0)[inside[0] // SCALE, inside[1] // SCALE]
    assert np.abs(drawn[inside] - (0.5 * under + 0.5 * np.array(colour_of(2)))).max() <= 1
    assert tuple(drawn[y, x + 5]) == colour_of(2)
    assert np.array_equal(drawn[0, 0], square_frame(0)[0, 0])
    beside = draw_frame(SEQUENCE, 0, NOTHING, Tracked(masks=lambda t: square_mask(t).astype(np.int64)))
    assert tuple(beside[y, x + 5]) == (255, 255, 255)
    assert np.array_equal(beside[inside], under)


def test_boxes_stand_where_they_are_with_their_ids_and_hidden_ones_do_not() -> None:
    x, y, w, h = square_box(0)
    boxes = np.array([[x, y, w, h], [np.nan] * 4, [0, 0, 5, 5]], dtype=np.float64)
    drawn = draw_frame(SEQUENCE, 0, Tracked(boxes=boxes), NOTHING)
    assert tuple(drawn[SCALE * y, SCALE * x + 9]) == colour_of(1)
    assert tuple(drawn[SCALE * (y + h) - 1, SCALE * x + 9]) == colour_of(1)
    hidden = draw_frame(SEQUENCE, 1, Tracked(boxes=boxes), NOTHING)
    assert np.array_equal(hidden, draw_frame(SEQUENCE, 1, NOTHING, NOTHING))
    rows = np.array([[1, 7, x, y, w, h]], dtype=np.float64)
    many = draw_frame(SEQUENCE, 1, Tracked(objects=rows), NOTHING)
    assert tuple(many[SCALE * (y + h) - 1, SCALE * x + 9]) == colour_of(7)
    assert np.array_equal(
        draw_frame(SEQUENCE, 0, Tracked(objects=rows), NOTHING), draw_frame(SEQUENCE, 0, NOTHING, NOTHING)
    )


def test_points_are_drawn_and_missing_ones_are_not() -> None:
    points = np.full((3, 2, 2), -1.0)
    points[0, 0] = 30, 20
    drawn = draw_frame(SEQUENCE, 0, Tracked(keypoints={5: points}), NOTHING)
    assert tuple(drawn[SCALE * 20, SCALE * 30]) == colour_of(5)
    assert np.array_equal(
        draw_frame(SEQUENCE, 1, Tracked(keypoints={5: points}), NOTHING),
        draw_frame(SEQUENCE, 1, NOTHING, NOTHING),
    )


@pytest.mark.parametrize(
    ("count", "shown"), [(2, [0, 1]), (6, [0, 1, 2, 3, 4, 5]), (100, [0, 20, 40, 59, 79, 99])]
)
def test_a_strip_begins_with_the_first_frame_and_ends_with_the_last(count: int, shown: list[int]) -> None:
    assert strip_frames(count) == shown


def test_a_strip_has_its_frames_side_by_side() -> None:
    frames = {t: draw_frame(SEQUENCE, t, NOTHING, NOTHING) for t in range(3)}
    assert strip(SEQUENCE, frames).shape == (18 + 160, 3 * 200, 3)


def test_the_first_frame_of_a_strip_has_rulers_in_its_own_pixels() -> None:
    black = np.zeros((160, 200, 3), dtype=np.uint8)  # as drawn: 64 x 80 pixels, 2.5 times as large
    row = strip(SEQUENCE, {0: black, 1: black})[18:]
    ticks = np.flatnonzero((row[1, 1:] == 255).all(-1)) + 1
    assert ticks.tolist() == [50, 100, 150]  # at 20, 40 and 60
    assert np.flatnonzero((row[1:, 1] == 255).all(-1)).tolist() == [49, 99]
    assert not row[:100, 200:].any()


def test_neighbouring_ids_have_other_colours() -> None:
    colours = np.array([colour_of(number) for number in range(1, 7)], dtype=int)
    apart = np.abs(colours[:, None] - colours).sum(-1) + 1000 * np.eye(6, dtype=int)
    assert apart.min() > 60
