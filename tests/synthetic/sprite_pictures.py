"""Reading positions off rendered sprites."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vidssl.synthetic import sprites
from vidssl.synthetic.sprites import Sprite

STILL = Sprite(shape=0, fg_hue=0, bg_hue=5, scale=0.7, angle=0.3, x=0.5, y=0.5)


def render_coverage(sprite: Sprite, frames: int = 16, size: int = 64) -> NDArray[np.float32]:
    """How much of each pixel the sprite covers, (T, H, W) in [0, 1]."""
    return sprites._coverage(sprite.shape, *sprites._local_coordinates(sprite, frames, size))


def torus_centre(coverage: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre of mass on the torus, (T, 2) as x, y in pixels: the angle of the first Fourier coefficient."""
    size = coverage.shape[-1]
    wave = np.exp(2j * np.pi * np.arange(size) / size)
    mass = coverage.astype(np.float64)
    first = np.stack([mass.sum(1) @ wave, mass.sum(2) @ wave], axis=-1)
    return np.angle(first) / (2 * np.pi) * size


def wrapped(shift: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    return (shift + period / 2) % period - period / 2
