"""Tasks that carry labels along: masks and key points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tests.evaluation.tracking.drawn import square_box, square_frame, square_mask
from tests.evaluation.tracking.run.sources import constant, source
from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.run.features import Grid, grid_of
from vidssl.evaluation.tracking.run.maps import labels_on, mask_from
from vidssl.evaluation.tracking.run.options import TrackOptions
from vidssl.evaluation.tracking.run.pose import Pose
from vidssl.evaluation.tracking.run.video_objects import VideoObjects
from vidssl.evaluation.tracking.sequence import Lazy, Sequence

COUNT = 5


def sequence(masks: dict[int, Any] | None = None, introduce: bool = False, count: int = COUNT) -> Sequence:
    given = {t: square_mask(t) for t in range(count)} if masks is None else masks
    labels = Lazy(count, lambda t: None if given.get(t) is None else given[t].astype(np.int64))
    return Sequence("s", Lazy(count, square_frame), masks=labels, masks_introduce=introduce)


def mean(task: Any, tracked: Any, of: Sequence, metric: str) -> float:
    return float(np.mean([scores[metric] for scores in task.score(tracked, of)]))


@pytest.mark.parametrize("preset", ["dino", "crw"])
def test_labels_go_down_and_come_back_where_they_were(preset: str) -> None:
    mask = np.zeros((64, 80), np.int64)
    mask[8:24, 16:40], mask[40:64, 60:80] = 3, 9  # whole cells of 4
    grid = Grid((4.0, 4.0), (16, 20))
    labels = labels_on(mask, [3, 9], grid, preset)
    assert labels.shape == (3, 16, 20) and torch.allclose(labels.sum(0), torch.ones(16, 20))
    back = mask_from(labels, [3, 9], grid, (64, 80), preset)
    assert (back == mask).mean() > 0.97 and set(np.unique(back)) == {0, 3, 9}


def test_a_grid_that_reaches_over_the_frame_shifts_nothing() -> None:
    """61 x 78 pixels in cells of 4: the last cells show a border; what lies in the middle stays in its place."""
    mask = np.zeros((61, 78), np.int64)
    mask[20:40, 40:60] = 1
    odd = Sequence("odd", Lazy(2, lambda t: np.zeros((61, 78, 3), np.uint8)))
    grid = grid_of(odd, 4, None)
    labels = labels_on(mask, [1], grid, "dino")
    assert labels[1].nonzero().min(0).values.tolist() == [5, 10]
    assert labels[1].nonzero().max(0).values.tolist() == [9, 14]
    back = mask_from(labels, [1], grid, (61, 78), "dino")
    rows, columns = np.nonzero(back)
    assert (rows.mean(), columns.mean()) == pytest.approx((29.5, 49.5), abs=0.3)


def test_masks_are_carried_by_what_tells_the_object_and_not_by_what_does_not() -> None:
    task, one = VideoObjects(TrackOptions()), sequence()
    good = mean(task, task.follow(source(), one), one, "J")
    blind = mean(task, task.follow(source(features=constant), one), one, "J")
    copied = mean(task, task.plain(one)["first label copied"], one, "J")
    assert good > 0.8 and good > copied + 0.2 and good > blind + 0.3


def test_the_copied_mask_scores_what_it_overlaps() -> None:
    """Frames 1 to 3 of 5: the first is given, and DAVIS leaves out the last."""
    task, one = VideoObjects(TrackOptions()), sequence()
    shared = [(16 - 4 * t) ** 2 for t in (1, 2, 3)]
    expected = np.mean([s / (512 - s) for s in shared])
    assert mean(task, task.plain(one)["first label copied"], one, "J") == pytest.approx(expected)
    some = sequence({t: square_mask(t) for t in (0, 2, 4)})  # masks on some frames: all after the first count
    shared = [(16 - 4 * t) ** 2 for t in (2, 4)]
    expected = np.mean([s / (512 - s) for s in shared])
    assert mean(task, task.plain(some)["first label copied"], some, "J") == pytest.approx(expected)


def test_the_truth_scores_one_and_a_lost_object_nothing() -> None:
    task, one = VideoObjects(TrackOptions()), sequence()
    assert mean(task, task.truth(one), one, "J&F") == 1
    gone = {t: square_mask(t) if t < 2 else np.zeros((64, 80), np.uint8) for t in range(COUNT)}
    vanished = sequence(gone)
    assert mean(task, task.truth(vanished), vanished, "J") == 1
    copied = mean(task, task.plain(vanished)["first label copied"], vanished, "J")
    assert copied == pytest.approx((144 / (512 - 144)) / 3)


def test_an_object_that_comes_later_is_carried_from_its_frame() -> None:
    late = {0: square_mask(0), 2: square_mask(2)}
    late[2][50:62, 60:76] = 2
    one = sequence(late, introduce=False)
    tracked = VideoObjects(TrackOptions()).follow(source(), one)
    assert tracked.masks is not None
    found = [tracked.masks(t) for t in range(COUNT)]
    ids = [set(np.unique(mask)) if mask is not None else None for mask in found]
    assert ids[0] == ids[1] == {0, 1} and ids[2] == ids[4] == {0, 1, 2}


def test_objects_without_a_cell_are_counted() -> None:
    masks = {t: square_mask(t) for t in range(COUNT)}
    masks[0][60, 3], masks[0][2, 2] = 8, 9  # a pixel each; cells of 4 take the label of their pixel (2, 2)
    said = VideoObjects(TrackOptions()).follow(source(), sequence(masks)).remark
    assert said is not None and said.startswith("1 of 3 objects have no cell of their own")
    assert VideoObjects(TrackOptions()).follow(source(), sequence()).remark is None


def test_masks_that_cannot_start_are_named() -> None:
    task = VideoObjects(TrackOptions())
    empty = sequence({0: np.zeros((64, 80), np.uint8), 1: square_mask(1)})
    with pytest.raises(VidsslError, match="s: the mask of its first frame is empty"):
        task.follow(source(), empty)
    other = sequence({t: np.ones((8, 8), np.uint8) for t in range(COUNT)})
    with pytest.raises(VidsslError, match="s: the mask of frame 0 has 8 x 8 pixels, the frames 80 x 64"):
        task.follow(source(), other)
    assert task.lacks(sequence({1: square_mask(1)})) == "no mask of its first frame"
    assert task.unscored(sequence(introduce=True)) == "masks only where objects start"
    outside = VideoObjects(TrackOptions(box=(500, 500, 10, 10)))
    with pytest.raises(VidsslError, match="s: the box 500,500,10,10 lies outside of its 80 x 64 pixels"):
        outside.follow(source(), one := sequence())
    assert outside.unscored(one) == "a box drawn by hand"


def figure(t: int) -> Any:
    x, y, w, h = square_box(t)
    return np.array([[x + 2, y + 2], [x + w - 2, y + 2], [x + w / 2, y + h - 2]], dtype=np.float64)


def posed(hide: tuple[int, int] | None = None) -> Sequence:
    points = np.stack([figure(t) for t in range(COUNT)])
    if hide is not None:
        points[hide] = -1
    return Sequence("p", Lazy(COUNT, square_frame), keypoints={4: points})


def test_points_are_carried_by_what_tells_the_object() -> None:
    task, one = Pose(TrackOptions(preset="crw")), posed()
    tracked = task.follow(source(), one)
    assert tracked.keypoints is not None and tracked.keypoints[4].shape == (COUNT, 3, 2)
    assert np.array_equal(tracked.keypoints[4][0], figure(0))
    good = mean(task, tracked, one, "PCK@0.2")
    copied = mean(task, task.plain(one)["first label copied"], one, "PCK@0.2")
    assert good > copied + 0.3
    assert mean(task, task.truth(one), one, "PCK@0.1") == 1
    assert mean(task, task.truth(one), one, "missing") == 0


def test_hidden_points_do_not_count_and_missed_ones_are_counted() -> None:
    task = Pose(TrackOptions())
    hidden = posed(hide=(2, 1))
    exact = np.stack([figure(t) for t in range(COUNT)])
    wrong = exact.copy()
    wrong[2, 1] = 0, 0
    tracked = task.plain(hidden)["first label copied"]
    for points in (exact, wrong):
        found = type(tracked)(keypoints={4: points})
        assert mean(task, found, hidden, "PCK@0.2") == 1
    lost = exact.copy()
    lost[3] = -1
    assert mean(task, type(tracked)(keypoints={4: lost}), posed(), "missing") == pytest.approx(1 / 4)
    lost[1:] = -1
    scores = task.score(type(tracked)(keypoints={4: lost}), posed())
    assert scores == [{"PCK@0.1": 0, "PCK@0.2": 0, "missing": 1}]


def test_points_that_cannot_start_are_named() -> None:
    nothing = Sequence("p", Lazy(2, square_frame), keypoints={1: np.full((2, 3, 2), -1.0)})
    with pytest.raises(VidsslError, match="p: no key point is seen in its first frame"):
        Pose(TrackOptions()).follow(source(), nothing)
    assert Pose(TrackOptions()).unscored(nothing) == "key points of its first frame only"
    assert Pose(TrackOptions()).lacks(sequence()) == "no key points"
