"""Pixels, masks, boxes and key points of a scene of several sprites.

Coordinates are continuous and begin at 0: pixel i of a row spans i to i + 1. A pixel belongs to the frontmost object that
covers at least half of it; all truth is of what is seen, so a hidden part has no mask and a hidden key point no place.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vidssl.errors import VidsslError
from vidssl.synthetic.objects.scene import Difficulty, ObjectScene, SceneObject, draw_scene, swing
from vidssl.synthetic.shapes import SHAPES, Floats
from vidssl.synthetic.sprites import hue_colour, plane_waves

# Five points on each shape, in units of its radius, at least 0.15 inside the outline.
KEYPOINTS: dict[str, tuple[tuple[float, float], ...]] = {
    "heart": ((0.0, 0.0), (-0.5, -0.25), (0.5, -0.25), (0.0, 0.65), (-0.3, 0.3)),
    "P": ((-0.35, -0.7), (-0.35, 0.05), (-0.35, 0.7), (0.3, -0.6), (0.3, -0.08)),
    "arrow": ((0.0, -0.6), (-0.45, -0.18), (0.45, -0.18), (0.0, 0.2), (0.0, 0.75)),
    "L": ((-0.3, -0.65), (-0.3, 0.0), (-0.3, 0.6), (0.1, 0.6), (0.4, 0.6)),
}
# Quantiles of the normal distribution, of unit variance: a random byte looks its noise up ten times faster than it is drawn.
NOISE = np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)], dtype=np.float32)
NOISE /= NOISE.std()
HIDDEN = -1.0  # both coordinates of a key point that is not seen
SPLITS = ("sequences", "videos")


@dataclass(frozen=True)
class ObjectClip:
    """A rendered sequence of T frames with its truth.

    Attributes:
        frames: (T, H, W, 3) uint8 RGB.
        masks: (T, H, W) uint8, the identity seen at each pixel (1 to N), 0 for the background.
        keypoints: (T, N, 5, 2) x and y in pixels; HIDDEN where not seen.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    keypoints: NDArray[np.float64]

    @property
    def boxes(self) -> NDArray[np.int64]:
        """(T, N, 4) x, y, width and height of the seen pixels of each object; all 0 where none is seen."""
        count = self.keypoints.shape[1]
        seen = self.masks[:, None] == np.arange(1, count + 1)[:, None, None]
        x, width = _extent(seen.any(2))
        y, height = _extent(seen.any(3))
        return np.stack([x, y, width, height], axis=-1)


def object_clip(
    seed: int,
    index: int,
    frames: int = 32,
    size: int = 128,
    difficulty: Difficulty | None = None,
    split: str = "sequences",
) -> ObjectClip:
    """Clip `index` of a seed, a pure function of the arguments; object 1 is seen in every frame.

    Args:
        frames, size: T, pixels of a side.
        difficulty: default Difficulty().
        split: "sequences" or "videos"; equal seeds share no scene between them.

    Raises:
        VidsslError: if frames < 1, size < 16, or seed or index is negative.
    """
    if frames < 1 or size < 16 or min(seed, index) < 0:
        raise VidsslError(
            f"object clip: frames={frames}, size={size}, seed={seed}: must be at least 1, 16 and 0"
        )
    rng = np.random.default_rng((seed, SPLITS.index(split), index))
    scene = draw_scene(rng, frames, difficulty or Difficulty())
    clip = render_scene(scene, size)
    if not (clip.masks == 1).any((1, 2)).all():
        clip = render_scene(scene.in_front(0), size)
    return clip


def render_scene(scene: ObjectScene, size: int) -> ObjectClip:
    """Draw the objects of a scene over its background, the farthest first, and light the whole."""
    rng = np.random.default_rng(scene.looks)
    frames = len(scene.objects[0].x)
    pixels = _ground(scene, rng, frames, size)
    masks = np.zeros((frames, size, size), dtype=np.uint8)
    for index in scene.depth:
        item = scene.objects[index]
        corner, coverage, colour = _window(item, size, scene.difficulty.texture)
        for frame in range(frames):
            inside, cut = _overlap(corner[frame], coverage.shape[1], size)
            below, cover = pixels[frame][:, *inside], coverage[frame][cut]
            below += cover * (colour[frame][:, *cut] - below)
            masks[frame][inside][cover >= 0.5] = index + 1
    shadow, cast = _light(scene.difficulty.light, rng, frames, size)
    noise = np.float32(scene.difficulty.noise) * NOISE + np.float32(0.5)  # the half rounds
    seen = np.empty((frames, size, size, 3), dtype=np.uint8)
    for frame in range(frames):  # one at a time stays in the cache
        level = pixels[frame]
        level *= shadow[frame]
        level *= cast[frame]
        level += noise.take(rng.integers(256, size=level.shape, dtype=np.uint8))
        np.clip(level, 0, 255, out=level)
        seen[frame] = rearrange(level.astype(np.uint8), "c h w -> h w c")
    return ObjectClip(seen, masks, _keypoints(scene, masks))


def _window(item: SceneObject, size: int, texture: float) -> tuple[NDArray[np.int64], Floats, Floats]:
    """What one object shows in a square window that moves with it.

    Returns:
        (T, 2) column and row of the window's corner, (T, w, w) coverage in [0, 1], (T, 3, w, w) colour.
    """
    width, height = (size * item.radius * np.exp(sign * item.stretch) for sign in (1, -1))
    side = 2 * int(np.ceil(max(width.max(), height.max()))) + 3
    centre = np.stack([item.x, item.y], axis=-1) * size
    corner = np.floor(centre).astype(np.int64) - side // 2
    dx, dy = (corner[:, k, None] + np.arange(side) + 0.5 - centre[:, k, None] for k in (0, 1))
    u, v = _turned(
        rearrange(dx, "t w -> t 1 w"), rearrange(dy, "t h -> t h 1"), -rearrange(item.angle, "t -> t 1 1")
    )
    scaled = [(a / rearrange(r, "t -> t 1 1")).astype(np.float32) for a, r in ((u, width), (v, height))]
    # Along the shorter axis lengths shrink the most, so the outline is at most as steep as half a pixel.
    pixels = rearrange(np.minimum(width, height).astype(np.float32), "t -> t 1 1")
    distance = list(SHAPES.values())[item.shape](*scaled) * pixels
    coverage: Floats = np.clip(np.float32(0.5) - distance, 0, 1)
    rng = np.random.default_rng(item.texture)
    shade = plane_waves(rng, rng.normal(0, 2.5, size=(3, 2)).astype(np.float32), *scaled)
    value = rng.uniform(0.75, 0.95)
    level = rearrange(hue_colour(item.hue, 0.6, value), "c -> c 1 1")
    return corner, coverage, level * (1 + np.float32(0.2 * texture) * shade[:, None])


def _turned(
    x: NDArray[np.float64], y: NDArray[np.float64], angle: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y after a clockwise turn (y points down)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return x * cos - y * sin, x * sin + y * cos


def _overlap(
    corner: NDArray[np.int64], side: int, size: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Rows and columns that a window shares with the frame: in the frame, and in the window."""
    first = np.clip(corner, 0, size)[::-1]
    last = np.clip(corner + side, 0, size)[::-1]
    inside = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
    cut = tuple(slice(a, b) for a, b in zip(first - corner[::-1], last - corner[::-1], strict=True))
    return inside, cut  # type: ignore[return-value]


def _ground(scene: ObjectScene, rng: np.random.Generator, frames: int, size: int) -> Floats:
    """(T, 3, H, W) a textured background that drifts."""
    x, y = ((np.arange(size) + 0.5) / size - np.arange(frames)[:, None] * v for v in scene.ground_velocity)
    vectors, phases = rng.normal(0, 9.0, size=(4, 2)), rng.uniform(0, 2 * np.pi, 4)
    shade = _plane_waves(vectors, phases, x, y) / np.sqrt(2)
    level = rearrange(hue_colour(scene.ground_hue, 0.5, 0.55), "c -> c 1 1")
    shade *= np.float32(0.25 * scene.difficulty.texture)
    ground: Floats = level * (1 + shade[:, None])
    return ground


def _light(depth: float, rng: np.random.Generator, frames: int, size: int) -> tuple[Floats, Floats]:
    """Factors of at most 1: a shadow that sways over the scene, (T, H, W), and light whose colour swings, (T, 3, 1, 1)."""
    time = np.arange(frames)
    cast = np.stack([1 - depth * (0.25 + 0.25 * swing(rng, time)) for _ in range(3)], axis=-1)
    heading, phase = rng.uniform(0, 2 * np.pi, 2)
    sway = phase + 2 * np.pi * swing(rng, time)
    centres = np.broadcast_to((np.arange(size) + 0.5) / size, (frames, size))
    vector = 4 * np.array([[np.cos(heading), np.sin(heading)]])
    shadow = 1 - np.float32(depth) * (0.5 + 0.5 * _plane_waves(vector, sway[:, None], centres, centres))
    return shadow, rearrange(cast.astype(np.float32), "t c -> t c 1 1")


def _plane_waves(
    vectors: NDArray[np.float64],
    phases: NDArray[np.float64],
    x: NDArray[np.float64],
    y: NDArray[np.float64],
) -> Floats:
    """(T, H, W) sum of sin(k · (x, y) + phase) on a grid: sin(a + b) = sin a cos b + cos a sin b, a product of matrices.

    Args:
        vectors: (K, 2). phases: (K,) or (T, K). x, y: (T, W), (T, H).
    """
    a, b = x[..., None] * vectors[:, 0] + phases[..., None, :], y[..., None] * vectors[:, 1]
    rows = np.concatenate([np.cos(b), np.sin(b)], axis=-1).astype(np.float32)
    columns = np.concatenate([np.sin(a), np.cos(a)], axis=-1).astype(np.float32)
    waves: Floats = rows @ columns.swapaxes(1, 2)
    return waves


def _keypoints(scene: ObjectScene, masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(T, N, 5, 2): where the points of each object lie, HIDDEN unless their pixel shows the object."""
    size = masks.shape[-1]
    points = np.empty((len(masks), len(scene.objects), 5, 2))
    for index, item in enumerate(scene.objects):
        local = np.array(list(KEYPOINTS.values())[item.shape])
        u, v = (
            local[:, k] * (item.radius * np.exp(sign * item.stretch))[:, None]
            for k, sign in ((0, 1), (1, -1))
        )
        x, y = _turned(u, v, item.angle[:, None])
        points[:, index] = size * np.stack([x + item.x[:, None], y + item.y[:, None]], axis=-1)
    column, row = np.floor(points).astype(np.int64).transpose(3, 0, 1, 2)
    inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
    frame, identity = np.arange(len(masks))[:, None, None], np.arange(1, len(scene.objects) + 1)[:, None]
    seen = masks[frame, np.clip(row, 0, size - 1), np.clip(column, 0, size - 1)] == identity
    points[~(inside & seen)] = HIDDEN
    return points


def _extent(hit: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First index and length of what is hit along the last axis; 0 and 0 where nothing is."""
    first = hit.argmax(-1)
    length = hit.shape[-1] - hit[..., ::-1].argmax(-1) - first
    return first, np.where(hit.any(-1), length, 0)
