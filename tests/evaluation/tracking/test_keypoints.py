"""Heat maps, points read from them, and PCK by closed forms and by brute force."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.evaluation.tracking.keypoints import heatmaps, missing_fraction, pck, read_points
from vidssl.evaluation.tracking.propagation import propagate


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 5), st.sampled_from([(9, 12), (30, 60)]))
def test_heat_maps_are_gaussians_cell_by_cell(seed: int, joints: int, size: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    points = generator.uniform(-3, 1, (joints, 2)) + generator.random((joints, 2)) * (
        size[1] + 6,
        size[0] + 6,
    )
    maps = heatmaps(points, size)
    seen = points[points[:, 0] >= 0]
    extent = max(np.ptp(seen[:, 0]), np.ptp(seen[:, 1])) if len(seen) else 0
    sigma = max(0.5, 0.015 * extent)
    for y, x in np.ndindex(*size):
        values = []
        for u, v in points:
            near = u >= 0 and abs(x - u) <= 3 * sigma and abs(y - v) <= 3 * sigma
            values.append(math.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)) if near else 0.0)
        assert maps[1:, y, x].tolist() == pytest.approx(values, abs=1e-9)
        assert maps[0, y, x] == (not any(values))


def test_a_point_in_the_middle_of_a_cell_has_height_one_and_a_missing_one_no_map() -> None:
    maps = heatmaps(torch.tensor([[3.0, 2.0], [-1, -1], [torch.nan, 2], [20, 2]]), (6, 8))
    assert maps.dtype == torch.float32 and maps.shape == (5, 6, 8)
    assert maps[1, 2, 3] == 1 and maps[1, 2, 4] == pytest.approx(math.exp(-2)) and maps[1, 2, 5] == 0
    assert not maps[2:].any() and torch.equal(maps[0] == 0, maps[1] > 0)
    assert heatmaps(np.zeros((0, 2)), (6, 8)).tolist() == torch.ones(1, 6, 8).tolist()
    assert heatmaps(torch.full((2, 2), -1), (3, 4))[0].all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 7), st.tuples(st.integers(1, 6), st.integers(1, 6)))
def test_points_are_read_as_weighted_means_of_the_highest_cells(
    seed: int, top: int, size: tuple[int, int]
) -> None:
    soft = np.random.default_rng(seed).random((4, *size)) ** 3
    soft[2] = 0
    wanted = []
    for heat in soft[1:]:
        best = sorted(np.ndindex(*size), key=lambda cell: -heat[cell])[:top]
        total = sum(heat[cell] for cell in best)
        x, y = (sum(heat[cell] * cell[axis] for cell in best) for axis in (1, 0))
        wanted.append((x / total, y / total) if total else (-1, -1))
    np.testing.assert_allclose(read_points(torch.from_numpy(soft), top), wanted, atol=1e-9)
    np.testing.assert_allclose(read_points(torch.from_numpy(soft) * 1e-300, top), wanted, atol=1e-9)


def test_points_come_back_from_their_heat_maps_and_along_a_video() -> None:
    points = torch.tensor([[2.0, 3.0], [8.0, 5.0], [6.0, 1.0], [-1, -1]], dtype=torch.float64)
    maps = heatmaps(points, (8, 12))
    torch.testing.assert_close(read_points(maps), points, rtol=0, atol=1e-9)
    cells = torch.randn(20, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    video = torch.stack([cells.roll(shift, 2) for shift in range(3)])
    soft = propagate(video, maps, "cropmae", temperature=0.01, top_k=1, radius=0)
    for frame in (1, 2):
        moved = points + torch.tensor([frame, 0])
        moved[3] = -1
        torch.testing.assert_close(read_points(soft[frame]), moved, rtol=0, atol=1e-9)


def slow_pck(predicted: list[Any], true: list[Any], at: float) -> float:
    shares = []
    for joint in range(predicted[0].shape[1]):
        hits = []
        for found, wanted in zip(predicted, true, strict=True):
            for t in range(1, len(found)):
                scored = [k for k in range(found.shape[1]) if found[t, k, 0] >= 0]
                if joint not in scored:
                    continue
                x, y = wanted[t, scored, 0], wanted[t, scored, 1]
                norm = 0.6 * math.hypot(x.max() - x.min(), y.max() - y.min())
                hits.append(math.dist(found[t, joint], wanted[t, joint]) <= at * norm)
        if hits:
            shares.append(sum(hits) / len(hits))
    return 100 * sum(shares) / len(shares)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999))
def test_correct_key_points_are_counted_joint_by_joint_over_all_videos(seed: int) -> None:
    generator = np.random.default_rng(seed)
    true = [generator.uniform(0, 100, (frames, 6, 2)) for frames in (5, 2, 8)]
    predicted = [points + generator.normal(0, 8, points.shape) for points in true]
    for points in predicted:
        points[generator.random(points.shape[:2]) < 0.2] = -1
    at = (0.05, 0.1, 0.2, 0.5)
    found = pck(predicted, [torch.from_numpy(points) for points in true], at)
    assert found.shape == (4,)
    np.testing.assert_allclose(found, [slow_pck(predicted, true, fraction) for fraction in at], atol=1e-9)
    lost = [(points[1:, :, 0] < 0).ravel() for points in predicted]
    assert missing_fraction(predicted, true) == pytest.approx(np.concatenate(lost).mean(), abs=1e-12)


def test_what_is_missing_hidden_or_broken_does_not_flatter() -> None:
    """A box of 30 x 40 pixels: its diagonal is 50, a tenth of 0.6 of it 3 pixels."""
    true = np.tile(np.array([[10.0, 10], [40, 10], [10, 50], [40, 50]]), (3, 1, 1))
    assert pck([true], [true]).tolist() == [100, 100]
    assert pck([true + np.array([3, 0])], [true]).tolist() == [100, 100] and pck(
        [true + np.array([3.01, 0])], [true]
    ).tolist() == [0, 100]
    first = true.copy()
    first[0] += 100
    assert pck([first], [true]).tolist() == [100, 100]  # frame 0 is given
    lost = true.copy()
    lost[1:, 0] = -1
    assert pck([lost], [true]).tolist() == [100, 100] and missing_fraction([lost], [true]) == 1 / 4
    assert (
        np.isnan(pck([np.full_like(true, -1)], [true])).all()
        and missing_fraction([lost * 0 - 1], [true]) == 1
    )
    broken = true.copy()
    broken[1:, 0] = np.nan
    assert pck([broken], [true]).tolist() == [75, 75] and missing_fraction([broken], [true]) == 0
    hidden = true.copy()
    hidden[1:, 0] = -1
    assert pck([true], [hidden]).tolist() == [100, 100] and missing_fraction([lost], [hidden]) == 0
    assert np.isnan(missing_fraction([true[:1]], [true[:1]])) and np.isnan(pck([true[:1]], [true[:1]])).all()


@pytest.mark.parametrize(
    ("predicted", "true", "said"),
    [
        ([], [], "key points of 0 videos, true ones of 0: must be as many, at least one"),
        ([(3, 4, 2)], [], "key points of 1 videos, true ones of 0"),
        ([(3, 4, 2)], [(4, 4, 2)], r"video 0: key points of shape \(3, 4, 2\), true ones of \(4, 4, 2\)"),
        ([(3, 4, 3)], [(3, 4, 3)], r"video 0: .*must be \(T, J, 2\) both"),
        ([(3, 0, 2)], [(3, 0, 2)], r"video 0: .*must be \(T, J, 2\) both"),
        ([(3, 4, 2), (3, 5, 2)], [(3, 4, 2), (3, 5, 2)], "video 1: 5 joints, but video 0 has 4"),
    ],
)
def test_videos_that_do_not_match_are_named(predicted: Any, true: Any, said: str) -> None:
    for measure in (pck, missing_fraction):
        with pytest.raises(VidsslError, match=said):
            measure([np.ones(shape) for shape in predicted], [np.ones(shape) for shape in true])


def test_maps_and_points_of_other_shapes_are_named() -> None:
    with pytest.raises(VidsslError, match=r"points: shape \(2,\): must be \(J, 2\)"):
        heatmaps(torch.ones(2), (4, 4))
    with pytest.raises(VidsslError, match=r"heat maps: shape \(4, 4\): must be \(1 \+ J, h, w\)"):
        read_points(torch.ones(4, 4))
    for value in (-1, torch.nan):
        with pytest.raises(VidsslError, match="heat maps: must be finite and not negative"):
            read_points(torch.full((2, 4, 4), value))
    with pytest.raises(VidsslError, match="top=0: must be at least 1"):
        read_points(torch.ones(2, 4, 4), top=0)
