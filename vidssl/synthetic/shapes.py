"""Signed distances of the four sprite shapes, built from boxes, discs and half-planes.

A shape lives inside the unit circle with its top towards -y (y points down, as in an image). None of the four has a
rotational symmetry, so the orientation of each is always identifiable. The distance is exact along straight edges
and arcs and mitred at corners, which is what anti-aliasing needs: only the half pixel around the outline matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
SignedDistance: TypeAlias = Callable[[Floats, Floats], Floats]


def box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    """Signed distance of the axis-aligned box around the origin (Chebyshev outside its corners)."""
    return np.maximum(np.abs(x) - half_width, np.abs(y) - half_height)


def disc(x: Floats, y: Floats, radius: float) -> Floats:
    """Signed distance of the disc around the origin."""
    distance: Floats = np.sqrt(x * x + y * y) - np.float32(radius)
    return distance


def heart(x: Floats, y: Floats) -> Floats:
    """A square standing on its corner, with a disc on each of its two upper sides; the tip points down."""
    side, drop = 0.56, 0.2  # half the square's side; how far its centre lies below the origin
    x, y = np.abs(x), y - drop
    square = (x + np.abs(y)) / np.sqrt(2.0, dtype=x.dtype) - side
    lobe = side / np.sqrt(2.0)
    joined: Floats = np.minimum(square, disc(x - np.float32(lobe), y + np.float32(lobe), side))
    return joined


def letter_p(x: Floats, y: Floats) -> Floats:
    """A stem and a ring."""
    bowl = np.abs(disc(x - 0.04, y + 0.34, 0.37)) - 0.16
    return np.minimum(box(x + 0.35, y, 0.17, 0.87), bowl)


def arrow(x: Floats, y: Floats) -> Floats:
    """A triangular head on a shaft; it points to -y."""
    x = np.abs(x)
    apex, base, half_width = -0.98, 0.0, 0.82
    slope = float(np.hypot(base - apex, half_width))
    flank = (x * (base - apex) - (y - apex) * half_width) / slope
    joined: Floats = np.minimum(np.maximum(flank, y - base), box(x, y - 0.42, 0.24, 0.54))
    return joined


def letter_l(x: Floats, y: Floats) -> Floats:
    """A stem and a foot."""
    return np.minimum(box(x + 0.3, y, 0.23, 0.83), box(x - 0.02, y - 0.6, 0.55, 0.23))


SHAPES: dict[str, SignedDistance] = {"heart": heart, "P": letter_p, "arrow": arrow, "L": letter_l}
