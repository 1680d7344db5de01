"""Detections and what is read of them: boxes, masks and poses by closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.association import JHMDB, Detections, Skeleton
from vidssl.evaluation.tracking.many_objects.detections import draw_pose
from vidssl.evaluation.tracking.many_objects.observations import box_features, mask_features


def test_the_box_of_a_full_rectangle_is_the_rectangle() -> None:
    masks = np.zeros((3, 40, 60))
    masks[0, 10:20, 5:45] = 1
    masks[1, 7, 9] = 1
    found = Detections(masks=masks)
    np.testing.assert_allclose(found.boxes[:2], [[5, 10, 40, 10], [9, 7, 1, 1]], atol=1e-9)
    assert np.isnan(found.boxes[2]).all()
    assert found.within((40, 60)).tolist() == [True, True, False]


def test_the_box_of_a_pose_is_that_of_the_joints_that_are_seen() -> None:
    found = Detections(points=[[[3, 4], [13, 24], [-1, -1]], [[5, 6], [np.nan, 1], [-1, -1]], [[-1, -1]] * 3])
    np.testing.assert_array_equal(found.boxes[:2], [[3, 4, 10, 20], [5, 6, 1, 1]])
    assert np.isnan(found.boxes[2]).all()


def test_boxes_outside_of_the_frame_or_without_area_are_nowhere() -> None:
    boxes = [
        [5, 5, 10, 10],
        [-8, 5, 10, 10],
        [-10, 5, 10, 10],
        [60, 5, 3, 3],
        [5, 5, 0, 10],
        [5, 5, 5, np.nan],
    ]
    assert Detections(boxes).within((40, 60)).tolist() == [True, True, False, False, False, False]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "detections as nothing: must be one of boxes, masks, points"),
        (
            {"boxes": np.zeros((1, 4)), "masks": np.zeros((1, 4, 4))},
            "detections as boxes and masks: must be one of",
        ),
        ({"boxes": np.zeros((2, 5))}, r"boxes of shape \(2, 5\): must be \(N, 4\)"),
        ({"masks": np.zeros((4, 4))}, r"masks of shape \(4, 4\): must be \(N, H, W\)"),
        ({"points": np.zeros((1, 5, 3))}, r"points of shape \(1, 5, 3\): must be \(N, J, 2\)"),
        ({"boxes": np.zeros((2, 4)), "scores": [1]}, r"2 boxes, but scores of shape \(1,\)"),
    ],
)
def test_detections_of_no_kind_are_named(given: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(VidsslError, match=said):
        Detections(**given)


def test_a_box_is_read_at_four_by_ten_places() -> None:
    """Of features that grow with the place, the mean over a part is that of its middle."""
    row, column = torch.meshgrid(torch.arange(30.0), torch.arange(40.0), indexing="ij")
    looks = box_features(torch.stack((row, column)).double(), np.array([[40.0, 24.0, 160.0, 96.0]]), stride=8)
    assert [x.shape for x in looks] == [(2, 40)]
    rows = 3 + (torch.arange(4) + 0.5) * 12 / 4
    columns = 5 + (torch.arange(10) + 0.5) * 20 / 10
    expected = torch.stack((rows.repeat_interleave(10), columns.repeat(4)))
    torch.testing.assert_close(looks[0], expected.double())
    assert box_features(torch.zeros(2, 4, 4), np.zeros((0, 4)), 8) == []
    huge = box_features(torch.ones(2, 30, 40), np.array([[-1e9, -1e9, 2e9, 2e9]]), stride=8)  # in no time
    assert bool(huge[0].isfinite().all())


def test_a_mask_is_read_at_the_cells_whose_middle_it_covers() -> None:
    cells = torch.rand(3, 6, 7, generator=torch.Generator().manual_seed(0))
    masks = np.zeros((3, 44, 56), dtype=bool)  # the last row of cells reaches over the frame
    masks[0, 8:21, 16:40] = True  # rows 1, 2 (middle 20), columns 2 to 4
    masks[1, 9:11, 30:32] = True  # between the middles
    masks[2, 41:, :] = True
    looks = mask_features(cells, masks, 8, area=200)
    torch.testing.assert_close(looks[0], cells[:, 1:3, 2:5].flatten(1))
    torch.testing.assert_close(looks[1], cells[:, 1, 3, None])
    torch.testing.assert_close(looks[2], cells[:, 5])


def test_a_large_mask_is_read_more_coarsely() -> None:
    cells = torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
    masks = np.zeros((1, 320, 320), dtype=bool)
    masks[0, 40:280, 80:280] = True  # 30 x 25 cells
    looks = mask_features(cells, masks, 8, area=200)[0]
    scale = np.sqrt(200 / 750)
    inside = torch.zeros(40, 40)
    inside[5:35, 10:35] = 1
    smaller = functional.interpolate((cells * inside)[None], scale_factor=scale, mode="bilinear")[0]
    kept = functional.interpolate(inside[None, None], scale_factor=scale, mode="nearest")[0, 0] >= 0.5
    torch.testing.assert_close(looks, smaller[:, kept])
    assert abs(looks.shape[1] - 200) < 30
    assert mask_features(cells, masks, 8, area=1000)[0].shape[1] == 750


def test_a_body_is_drawn_as_torso_and_limbs() -> None:
    square = np.array([[20, 20], [60, 20], [60, 70], [20, 70], [90, 90], [-1, -1]], dtype=float)
    body = draw_pose(square, (100, 120), Skeleton(torso=(0, 1, 2, 3), limbs=((2, 4), (3, 5))))
    assert body.shape == (100, 120)
    assert body[20:70, 20:60].all() and body[80, 75] and not body[20:70, 66:].any()
    assert not body[75:, :30].any()  # to a joint that is hidden
    line = draw_pose(np.array([[20.0, 50.0], [80, 50]]), (100, 120))
    assert np.flatnonzero(line[:, 50]).size == pytest.approx(8, abs=1)
    long = draw_pose(np.array([[20.0, 250.0], [420, 250]]), (500, 500))
    assert np.flatnonzero(long[:, 100]).size == pytest.approx(400 / 20, abs=1)
    assert draw_pose(np.array([[20.0, 50.0], [-1, -1]]), (100, 120)).sum() > 30  # a dot
    assert not draw_pose(np.full((3, 2), -1.0), (10, 10)).any()
    assert draw_pose(np.array([[5.0, 5.0], [1e300, 5]]), (10, 10))[5, 5]


def test_skeletons_name_joints_that_are_there() -> None:
    assert max(max(limb) for limb in JHMDB.limbs) == 14
    with pytest.raises(VidsslError, match="poses of 5 joints: the skeleton names joint 14"):
        draw_pose(np.zeros((5, 2)), (10, 10), JHMDB)
