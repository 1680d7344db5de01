"""Where rays meet the solids, against marching along them by signed distances, in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidssl.synthetic.factors.solids import BALL, CAPSULE, CYLINDER, REACH, SIDE, SOLIDS, first_hit, normals

Points = NDArray[np.float64]


def distance_to(solid: str, p: Points) -> Points:
    """Signed distance of points (3, n)."""
    x, y, z = p
    if solid == "sphere":
        return np.sqrt(x**2 + (y - BALL) ** 2 + z**2) - BALL
    if solid == "capsule":
        radius, height = CAPSULE
        return np.sqrt(x**2 + (y - np.clip(y, radius, height - radius)) ** 2 + z**2) - radius
    if solid == "cube":
        sides = [np.abs(x) - SIDE / 2, np.abs(y - SIDE / 2) - SIDE / 2, np.abs(z) - SIDE / 2]
    else:
        radius, height = CYLINDER
        sides = [np.hypot(x, z) - radius, np.abs(y - height / 2) - height / 2]
    outside = np.sqrt(sum(np.maximum(side, 0) ** 2 for side in sides))
    return outside + np.minimum(np.max(sides, axis=0), 0)


def rays(n: int = 4000) -> tuple[Points, Points]:
    """From outside towards points in and around the solids, with directions of any length."""
    rng = np.random.default_rng(0)
    origin = rng.normal(size=(3, n))
    origin *= rng.uniform(2, 5, n) / np.linalg.norm(origin, axis=0)
    target = rng.uniform([[-0.8], [-0.2], [-0.8]], [[0.8], [1.7], [0.8]], (3, n))
    return origin, (target - origin) * rng.uniform(0.2, 3, n)


@pytest.mark.parametrize("solid", SOLIDS)
def test_rays_meet_a_solid_where_marching_does(solid: str) -> None:
    origin, direction = rays()
    length = np.linalg.norm(direction, axis=0)
    travelled = np.zeros(origin.shape[1])
    nearest = np.full(origin.shape[1], np.inf)
    for _ in range(300):
        distance = distance_to(solid, origin + travelled * direction / length)
        nearest = np.minimum(nearest, distance)
        travelled += np.maximum(distance, 0)
    found = first_hit(solid, origin.astype(np.float32), direction.astype(np.float32))
    clear = (nearest < 1e-6) | (nearest > 1e-3)  # those that graze go either way
    assert clear.mean() > 0.9
    hit = nearest < 1e-6
    assert 0.2 < hit.mean() < 0.9
    assert np.array_equal(np.isfinite(found)[clear], hit[clear])
    np.testing.assert_allclose((found * length)[hit & clear], travelled[hit & clear], atol=2e-3)
    # What lies behind is not met.
    assert np.isinf(first_hit(solid, origin.astype(np.float32), -direction.astype(np.float32))).all()


@pytest.mark.parametrize("solid", SOLIDS)
def test_normals_are_the_gradient_of_the_distance(solid: str) -> None:
    origin, direction = (a.astype(np.float32) for a in rays(1000))
    distance = first_hit(solid, origin, direction)
    hit = np.isfinite(distance)
    point = (origin + np.where(hit, distance, 0) * direction)[:, hit].astype(np.float64)
    assert np.linalg.norm(point, axis=0).max() <= REACH + 1e-3
    shift = 1e-4 * np.eye(3)[:, :, None]
    gradient = np.array([distance_to(solid, point + d) - distance_to(solid, point - d) for d in shift]) / 2e-4
    smooth = np.abs(np.linalg.norm(gradient, axis=0) - 1) < 1e-3  # not on an edge
    smooth &= point[1] > 1e-2  # nor from below the floor
    assert smooth.mean() > 0.6
    np.testing.assert_allclose(
        normals(solid, point[:, smooth].astype(np.float32)), gradient[:, smooth], atol=0.02
    )
