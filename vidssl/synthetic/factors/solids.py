"""Four solids that stand on the floor, and where rays meet them: closed forms, for many rays at once.

Each stands on y = 0 round the y axis, and is about one unit high. Points and directions are (3, n) float32: x, y, z, y up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from vidssl.synthetic.shapes import Floats

# From where to where along each ray; nowhere if the first is beyond the second.
Interval: TypeAlias = tuple[Floats, Floats]

BALL = 0.6  # radius
SIDE = 1.0
CYLINDER = (0.5, 1.1)  # radius, height
CAPSULE = (0.4, 1.5)
REACH = 1.5  # no point of a solid is farther from the origin


def _slab(origin: Floats, direction: Floats, low: float, high: float) -> Interval:
    """Where one coordinate lies between two numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = (low - origin) / direction, (high - origin) / direction
    return np.minimum(a, b), np.maximum(a, b)


def _round(origin: Floats, direction: Floats, radius: float) -> Interval:
    """Where the given coordinates, two for a cylinder or three for a ball, are nearer to 0 than `radius`."""
    a = (direction * direction).sum(0)
    half = (origin * direction).sum(0)
    discriminant = half * half - a * ((origin * origin).sum(0) - radius**2)
    root = np.sqrt(np.maximum(discriminant, 0))
    missed = discriminant < 0
    return np.where(missed, np.inf, (-half - root) / a), np.where(missed, -np.inf, (root - half) / a)


def _both(*intervals: Interval) -> Interval:
    nears, fars = zip(*intervals, strict=True)
    return np.maximum.reduce(nears), np.minimum.reduce(fars)


def _shifted(origin: Floats, height: float) -> Floats:
    return origin - np.array([[0], [height], [0]], dtype=np.float32)


def _sphere(origin: Floats, direction: Floats) -> list[Interval]:
    return [_round(_shifted(origin, BALL), direction, BALL)]


def _cube(origin: Floats, direction: Floats) -> list[Interval]:
    sides = (_slab(origin[k], direction[k], -SIDE / 2, SIDE / 2) for k in (0, 2))
    return [_both(*sides, _slab(origin[1], direction[1], 0, SIDE))]


def _cylinder(
    origin: Floats, direction: Floats, low: float = 0.0, size: tuple[float, float] = CYLINDER
) -> list[Interval]:
    wall = _round(origin[::2], direction[::2], size[0])
    return [_both(wall, _slab(origin[1], direction[1], low, size[1]))]


def _capsule(origin: Floats, direction: Floats) -> list[Interval]:
    radius, height = CAPSULE
    ends = [_round(_shifted(origin, y), direction, radius) for y in (radius, height - radius)]
    return [*ends, *_cylinder(origin, direction, radius, (radius, height - radius))]


SOLIDS: dict[str, Callable[[Floats, Floats], list[Interval]]] = {
    "cube": _cube,
    "cylinder": _cylinder,
    "sphere": _sphere,
    "capsule": _capsule,
}


def first_hit(solid: str, origin: Floats, direction: Floats) -> Floats:
    """How far along each ray a solid is met from outside, in lengths of its direction.

    Args:
        origin: (3, n) or (3, 1). direction: (3, n), of any length.

    Returns:
        (n,), inf where the ray misses it or it lies behind.
    """
    nearest = np.full(direction.shape[1], np.inf, dtype=np.float32)
    for near, far in SOLIDS[solid](origin, direction):
        np.minimum(nearest, np.where((near <= far) & (near > 0), near, np.inf), out=nearest)
    return nearest


def normals(solid: str, point: Floats) -> Floats:
    """(3, n) unit normals at points (3, n) of its surface."""
    if solid == "cube":
        offset = _shifted(point, SIDE / 2)
        axis = np.abs(offset).argmax(0)
        return np.where(np.arange(3)[:, None] == axis, np.sign(offset), 0).astype(np.float32)
    core = np.zeros_like(point)  # the nearest point of a segment of the axis
    if solid == "cylinder":
        core[1] = point[1]
    else:
        radius, height = (BALL, 2 * BALL) if solid == "sphere" else CAPSULE
        core[1] = np.clip(point[1], radius, height - radius)
    outward = point - core
    if solid == "cylinder":
        lid = point[1] > CYLINDER[1] - 1e-3
        outward = np.where(lid, np.array([[0], [1], [0]]), outward)
    length = np.sqrt((outward * outward).sum(0))
    unit: Floats = (outward / length).astype(np.float32)
    return unit
