"""vidSprites: procedural clips of one sprite, with independent factors of appearance and of motion.

The scene follows dSprites (Matthey et al. 2017) in spirit and adds colour, texture and motion. Position, orientation
and the logarithm of the size all live on circles: what leaves on one side enters on the other. So uniform starting
values stay uniform in every frame, whatever the motion, and no single frame says anything about the motion.

Conventions: x points right and y down; angles are clockwise, 0 is upright; lengths are fractions of the frame's side,
so that a clip shows the same scene at any resolution.

>>> table = sample_factors(np.random.default_rng(0), 1000, fixed={"shape": 0})
>>> clip = render_clip(SpriteFactors.row(table, 0), frames=16, size=64, seed=0)   # (16, 64, 64, 3) uint8
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_choice
from vidssl.synthetic.shapes import SHAPES, Floats

FACTORS: dict[str, int] = {
    "shape": 4,
    "scale": 6,
    "angle0": 8,
    "fg_hue": 8,
    "bg_hue": 8,
    "x0": 8,
    "y0": 8,
    "direction": 8,
    "speed": 4,
    "spin": 5,
    "zoom": 3,
}

# Hues in degrees, spaced so that each has a name of its own.
HUES: dict[str, float] = {
    "red": 0.0,
    "orange": 28.0,
    "yellow": 56.0,
    "green": 125.0,
    "cyan": 182.0,
    "blue": 222.0,
    "purple": 274.0,
    "pink": 322.0,
}
RADIUS = 0.28  # of the bounding circle at scale 1, in frame sides
SCALE_RANGE = (0.39, 1.28)  # ends of the circle of sizes; the factors below stay inside it for 16 frames
SPEEDS = (1 / 64, 2 / 64, 3 / 64, 4 / 64)  # frame sides a frame; at 0 `direction` would be undefined
SPINS = tuple(np.deg2rad((-15.0, -7.5, 0.0, 7.5, 15.0)).tolist())  # a frame
ZOOMS = (-0.015, 0.0, 0.015)  # change of log size a frame


@dataclass(frozen=True)
class Sprite:
    """What one clip shows, in physical units.

    Attributes:
        shape, fg_hue, bg_hue: indices into SHAPES and HUES (sprite and background).
        scale: size at frame 0, within SCALE_RANGE; angle: radians, clockwise from upright.
        x, y: centre at frame 0, fractions of the side; vx, vy: their change a frame.
        spin: radians a frame, positive is clockwise; zoom: change of log size a frame.
    """

    shape: int
    fg_hue: int
    bg_hue: int
    scale: float
    angle: float
    x: float
    y: float
    vx: float = 0.0
    vy: float = 0.0
    spin: float = 0.0
    zoom: float = 0.0

    def at(self, frame: float) -> Sprite:
        """The sprite as it stands `frame` frames later: position, angle and log size wrapped round their circles."""
        low, high = np.log(SCALE_RANGE)
        log_scale = low + (np.log(self.scale) + self.zoom * frame - low) % (high - low)
        return replace(
            self,
            scale=float(np.exp(log_scale)),
            angle=(self.angle + self.spin * frame) % (2 * np.pi),
            x=(self.x + self.vx * frame) % 1.0,
            y=(self.y + self.vy * frame) % 1.0,
        )


@dataclass(frozen=True)
class SpriteFactors:
    """The integer labels of one clip; the allowed values of each are 0 .. FACTORS[name] - 1."""

    shape: int = 0
    scale: int = 0
    angle0: int = 0
    fg_hue: int = 0
    bg_hue: int = 0
    x0: int = 0
    y0: int = 0
    direction: int = 0
    speed: int = 0
    spin: int = 0
    zoom: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            _check_label(field.name, getattr(self, field.name))

    @classmethod
    def row(cls, table: Mapping[str, NDArray[np.int64]], index: int) -> SpriteFactors:
        """Row `index` of what `sample_factors` returned."""
        return cls(**{name: int(table[name][index]) for name in FACTORS})

    def sprite(self) -> Sprite:
        """The physical values: scale 0.5 to 1, angle and direction in steps of 45°, x0 and y0 in eighths of the side."""
        heading = self.direction * np.pi / 4  # 0 right, 2 down, 4 left, 6 up
        speed = SPEEDS[self.speed]
        return Sprite(
            shape=self.shape,
            fg_hue=self.fg_hue,
            bg_hue=self.bg_hue,
            scale=0.5 + 0.1 * self.scale,
            angle=self.angle0 * np.pi / 4,
            x=(self.x0 + 0.5) / 8,
            y=(self.y0 + 0.5) / 8,
            vx=float(speed * np.cos(heading)),
            vy=float(speed * np.sin(heading)),
            spin=SPINS[self.spin],
            zoom=ZOOMS[self.zoom],
        )


def _check_label(name: str, value: int) -> None:
    check_choice("sprite factor", name, FACTORS, "{name} {value!r}: unknown{guess} (allowed: {allowed})")
    if not 0 <= value < FACTORS[name]:
        raise VidsslError(
            f"sprite factor {name!r}: {value} is out of range (allowed: 0 to {FACTORS[name] - 1})"
        )


def sample_factors(
    rng: np.random.Generator, n: int, fixed: Mapping[str, int] | None = None
) -> dict[str, NDArray[np.int64]]:
    """n rows of independent, uniform labels, with replacement; those named in `fixed` are held at one value.

    A fixed factor does not change what is drawn for the others, so that two calls with equal generators pair up.

    Returns:
        One (n,) int64 array for each name in FACTORS, in that order.

    Raises:
        VidsslError: if `fixed` names an unknown factor or a value out of range.
    """
    fixed = fixed or {}
    for name, value in fixed.items():
        _check_label(name, value)
    table = {name: rng.integers(count, size=n) for name, count in FACTORS.items()}
    return table | {name: np.full(n, value, dtype=np.int64) for name, value in fixed.items()}


def random_sprite(
    rng: np.random.Generator, vx: float = 0.0, vy: float = 0.0, spin: float = 0.0, zoom: float = 0.0
) -> Sprite:
    """A sprite of random looks and pose, each uniform on its circle and independent, with the motion given."""
    return Sprite(
        shape=int(rng.integers(len(SHAPES))),
        fg_hue=int(rng.integers(len(HUES))),
        bg_hue=int(rng.integers(len(HUES))),
        scale=float(np.exp(rng.uniform(*np.log(SCALE_RANGE)))),
        angle=float(rng.uniform(0, 2 * np.pi)),
        x=float(rng.uniform()),
        y=float(rng.uniform()),
        vx=vx,
        vy=vy,
        spin=spin,
        zoom=zoom,
    )


def _local_coordinates(sprite: Sprite, frames: int, size: int) -> tuple[Floats, Floats, Floats]:
    """Pixel centres in the sprite's own frame, (T, H, W) each in units of its radius, and that radius (T, 1, 1), px."""
    states = [sprite.at(frame) for frame in range(frames)]
    x, y, angle, scale = np.array([(s.x, s.y, s.angle, s.scale) for s in states]).T
    centres = (np.arange(size) + 0.5) / size
    # Nearest copy of the sprite on the torus: offsets in [-0.5, 0.5), separable in x and y.
    dx = (centres - x[:, None] + 0.5) % 1.0 - 0.5
    dy = (centres - y[:, None] + 0.5) % 1.0 - 0.5
    radius = rearrange(RADIUS * scale, "t -> t 1")
    cos, sin = np.cos(angle)[:, None] / radius, np.sin(angle)[:, None] / radius
    along_x = [rearrange(a.astype(np.float32), "t w -> t 1 w") for a in (dx * cos, dx * sin)]
    along_y = [rearrange(a.astype(np.float32), "t h -> t h 1") for a in (dy * cos, dy * sin)]
    pixels = rearrange((radius * size).astype(np.float32), "t 1 -> t 1 1")
    return along_x[0] + along_y[1], along_y[0] - along_x[1], pixels


def _coverage(shape: int, u: Floats, v: Floats, radius: Floats) -> Floats:
    """How much of each pixel the sprite covers, (T, H, W) in [0, 1]: clip(1/2 - signed distance in pixels, 0, 1)."""
    distance = list(SHAPES.values())[shape](u, v) * radius
    coverage: Floats = np.clip(np.float32(0.5) - distance, 0.0, 1.0)
    return coverage


def plane_waves(rng: np.random.Generator, vectors: Floats, x: Floats, y: Floats) -> Floats:
    """Sum of plane waves of random phase, about unit variance; vectors (K, 2) in radians for each unit of x and y."""
    phases = rng.uniform(0, 2 * np.pi, len(vectors)).astype(np.float32)
    total = sum(np.sin(kx * x + ky * y + phase) for (kx, ky), phase in zip(vectors, phases, strict=True))
    return np.asarray(total * np.sqrt(2.0 / len(vectors)), dtype=np.float32)


def hue_colour(hue: int, saturation: float, value: float) -> Floats:
    """(3,) RGB, 0 to 255, of an index into HUES."""
    degrees = list(HUES.values())[hue]
    return np.array(colorsys.hsv_to_rgb(degrees / 360, saturation, value), dtype=np.float32) * 255


def render_clip(
    factors: SpriteFactors | Sprite,
    frames: int = 16,
    size: int = 64,
    seed: int = 0,
    texture: float = 1.0,
) -> NDArray[np.uint8]:
    """Render one clip; a pure function of its arguments.

    A bright, saturated sprite lies on a duller background, so that equal hues stay apart. Both carry a smooth
    texture drawn from `seed`: the sprite's turns and grows with it, the background's is static and periodic.

    Args:
        factors: labels, or a Sprite with physical values.
        frames: T. size: pixels, H = W. seed: of the two textures only.
        texture: their strength, 0 for plain colours.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        VidsslError: if frames or size is not positive.
    """
    if frames < 1 or size < 1:
        raise VidsslError(f"sprite clip: frames={frames}, size={size}: both must be at least 1")
    sprite = factors.sprite() if isinstance(factors, SpriteFactors) else factors
    rng = np.random.default_rng(seed)
    centres = ((np.arange(size) + 0.5) / size).astype(np.float32)
    # Whole cycles across the frame, at most two: seamless at the wrap and coarser than the sprite.
    cycles = 2 * np.pi * rng.integers(-2, 3, size=(4, 2)).astype(np.float32)
    ground_texture = plane_waves(rng, cycles, centres[None, :], centres[:, None])
    u, v, radius = _local_coordinates(sprite, frames, size)
    sprite_texture = plane_waves(rng, rng.normal(0, 1.8, size=(3, 2)).astype(np.float32), u, v)

    ground = hue_colour(sprite.bg_hue, 0.7, 0.3) * (
        1 + np.float32(0.16 * texture) * ground_texture[..., None]
    )
    coverage = _coverage(sprite.shape, u, v, radius)
    shade = 1 + np.float32(0.13 * texture) * sprite_texture
    out = np.empty((frames, size, size, 3), dtype=np.uint8)
    for channel, level in enumerate(hue_colour(sprite.fg_hue, 0.65, 0.97)):
        below = ground[..., channel]
        out[..., channel] = np.clip(below + coverage * (level * shade - below) + np.float32(0.5), 0, 255)
    return out
