"""The filter of boxes against filterpy and against its constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vidssl.evaluation.tracking.association import BoxFilter, fuse_motion


def test_the_filter_is_filterpys_with_its_noise_of_the_height() -> None:
    kalman = pytest.importorskip("filterpy.kalman")
    generator = np.random.default_rng(0)
    boxes = np.array([100, 50, 0.5, 60]) + np.cumsum(generator.normal(0, [3, 2, 0.01, 1], (15, 4)), axis=0)
    ours, theirs = BoxFilter(), kalman.KalmanFilter(dim_x=8, dim_z=4)
    mean, cov = ours.initiate(boxes[0])
    h = boxes[0, 3]
    theirs.x = np.concatenate((boxes[0], np.zeros(4)))
    theirs.P = np.diag([h / 10, h / 10, 1e-2, h / 10, h / 16, h / 16, 1e-5, h / 16]) ** 2
    theirs.H = np.eye(4, 8)
    theirs.F = np.block([[np.eye(4), np.eye(4)], [np.zeros((4, 4)), np.eye(4)]])
    np.testing.assert_allclose(cov, theirs.P, rtol=1e-12)
    for t, box in enumerate(boxes[1:]):
        h = mean[3]
        theirs.Q = np.diag([h / 20, h / 20, 1e-2, h / 20, h / 160, h / 160, 1e-5, h / 160]) ** 2
        theirs.predict()
        mean, cov = ours.predict(mean, cov)
        np.testing.assert_allclose(mean, theirs.x, atol=1e-9)
        np.testing.assert_allclose(cov, theirs.P, atol=1e-9)
        if t % 3 == 2:  # unseen
            continue
        h = mean[3]
        theirs.R = np.diag([h / 20, h / 20, 1e-1, h / 20]) ** 2
        theirs.update(box)
        others = np.stack((box, box + 5))
        distances = ours.gating_distance(mean, cov, others)
        offsets = others - mean[:4]
        expected = [o @ np.linalg.inv(cov[:4, :4] + theirs.R) @ o for o in offsets]
        np.testing.assert_allclose(distances, expected, atol=1e-9)
        mean, cov = ours.update(mean, cov, torch.from_numpy(box))
        np.testing.assert_allclose(mean, theirs.x, atol=1e-9)
        np.testing.assert_allclose(cov, theirs.P, atol=1e-9)


def test_a_box_in_uniform_motion_is_foreseen() -> None:
    ours = BoxFilter()
    mean, cov = ours.initiate([0, 0, 1, 40])
    for t in range(1, 40):
        mean, cov = ours.predict(mean, cov)
        mean, cov = ours.update(mean, cov, [3.0 * t, -t, 1, 40])
    mean, cov = ours.predict(mean, cov)
    np.testing.assert_allclose(mean[:2], [120, -40], atol=0.5)
    assert ours.gating_distance(mean, cov, [[120, -40, 1, 40], [150, -40, 1, 40]])[1] > 9.4877
    assert ours.gating_distance(mean, cov, np.zeros((0, 4))).shape == (0,)


def test_motion_is_mixed_in_and_shuts_out() -> None:
    cost, distances = torch.tensor([[0.2, 0.4]]), [[1.0, 9.5]]
    np.testing.assert_allclose(
        fuse_motion(cost, distances, gate=False), [[0.98 * 0.2 + 0.02, 0.98 * 0.4 + 0.19]], atol=1e-7
    )
    assert fuse_motion(cost, distances)[0, 1] == np.inf
    assert fuse_motion(cost, [[1.0, 9.48]])[0, 1] < np.inf
    np.testing.assert_allclose(fuse_motion(cost, [[np.inf, 1]], weight=1, gate=False), cost)
    assert fuse_motion(np.zeros((0, 3)), np.zeros((0, 3))).shape == (0, 3)
