"""vidShapes3D: a solid in a square room, seen by a camera that moves round it.

The scene follows 3D Shapes (Burgess & Kim 2018) and adds textures, markings, a light and motion. Every ray is met in closed
form, four to a pixel. Angles are about the vertical axis; orientation and light are counted from where the camera stands in
frame 0, which the room's own angle, drawn at random, does not tell.

The solids are round or square, so that their outline says little of how they are turned: each carries a white stripe, a dark
one and a white spot, a third of a turn apart, at least one of which is seen from every side.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from vidssl.synthetic.factors.solids import REACH, SOLIDS, first_hit, normals
from vidssl.synthetic.shapes import Floats
from vidssl.synthetic.sprites import plane_waves

FACTORS: dict[str, int] = {
    "floor_hue": 10,
    "wall_hue": 10,
    "object_hue": 10,
    "scale": 8,
    "shape": 4,
    "orientation": 15,
    "light_azimuth": 4,
    "camera_velocity": 3,
    "object_spin": 3,
}
MOTION = frozenset({"camera_velocity", "object_spin"})
SCALES = np.linspace(0.9, 1.5, FACTORS["scale"])
CAMERA_VELOCITIES = np.deg2rad((-4.0, 0.0, 4.0))  # a frame
SPINS = np.deg2rad((-8.0, 0.0, 8.0))  # a frame, in the room; three frames are one step of the orientation

WALL = 3.5  # half the room's width
CAMERA = (0.0, 2.3, 3.3)  # where it stands at angle 0; it looks along -z and down
TILT, FOCAL = np.deg2rad(24.0), 1.6  # focal length in half frame sides
ELEVATION = np.deg2rad(50.0)  # of the light
AMBIENT = 0.5
FINE = 2  # rays of a pixel along each side
# Marks round the solid: angle, half width (radians), heights (of the unit solid), added brightness.
MARKS = ((0.0, 0.35, (0.0, 2.0), 0.9), (120.0, 0.45, (0.0, 2.0), -0.65), (240.0, 0.4, (0.3, 0.75), 0.9))


@dataclass(frozen=True)
class Room:
    """What one clip shows, in physical units; hues and shape are labels.

    Attributes:
        scale: of the solid. yaw, light: (T,) angles of solid and light, as seen from the camera. room: (T,) of the room.
        looks: seed of the textures.
    """

    floor_hue: int
    wall_hue: int
    object_hue: int
    shape: int
    scale: float
    yaw: NDArray[np.float64]
    light: NDArray[np.float64]
    room: NDArray[np.float64]
    looks: int


def room_of(values: dict[str, int], frames: int, seed: int) -> Room:
    """The physical values of one clip's labels; the room's angle in frame 0 and the textures are drawn from `seed`."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)
    camera = CAMERA_VELOCITIES[values["camera_velocity"]] * time
    turned = 2 * np.pi * values["orientation"] / FACTORS["orientation"]
    return Room(
        floor_hue=values["floor_hue"],
        wall_hue=values["wall_hue"],
        object_hue=values["object_hue"],
        shape=values["shape"],
        scale=float(SCALES[values["scale"]]),
        yaw=turned + SPINS[values["object_spin"]] * time - camera,
        light=2 * np.pi * (values["light_azimuth"] + 0.5) / FACTORS["light_azimuth"] - camera,
        room=rng.uniform(0, 2 * np.pi) - camera,
        looks=int(rng.integers(2**31)),
    )


def render_room(room: Room, size: int) -> NDArray[np.uint8]:
    """(T, size, size, 3) RGB; a pure function."""
    rays, near = _rays(size)
    solid = list(SOLIDS)[room.shape]
    out = np.empty((len(room.yaw), size, size, 3), dtype=np.uint8)
    for frame, (yaw, light, angle) in enumerate(zip(room.yaw, room.light, room.room, strict=True)):
        rng = np.random.default_rng(room.looks)
        sun = np.array(
            [np.cos(ELEVATION) * np.sin(light), np.sin(ELEVATION), np.cos(ELEVATION) * np.cos(light)]
        )
        pixels, point, floor = _ground(room, rng, rays, sun.astype(np.float32), angle)
        to_solid = _turn(-yaw)
        local_sun = to_solid @ sun.astype(np.float32)
        # Shadows end where light that just passes a solid meets the floor.
        below = np.flatnonzero(floor & ((point * point).sum(0) < (1.4 * REACH * room.scale) ** 2))
        start = to_solid @ point[:, below] / np.float32(room.scale)
        blocked = np.isfinite(first_hit(solid, start, np.broadcast_to(local_sun[:, None], start.shape)))
        pixels[:, below[blocked]] *= np.float32(AMBIENT / _lit(sun[1]))
        origin = (to_solid @ np.array(CAMERA, dtype=np.float32))[:, None] / np.float32(room.scale)
        direction = to_solid @ rays[:, near]
        distance = first_hit(solid, origin, direction)
        seen = np.isfinite(distance)
        surface = origin + distance[seen] * direction[:, seen]
        pixels[:, near[seen]] = _surface(room, rng, solid, surface, local_sun)
        out[frame] = _shrunk(pixels, size)
    return out


def render_clip(values: dict[str, int], frames: int, size: int, seed: int) -> NDArray[np.uint8]:
    """(T, size, size, 3) uint8 of the labels; frame 0 depends on no motion factor."""
    return render_room(room_of(values, frames, seed), size)


@lru_cache(maxsize=4)
def _rays(size: int) -> tuple[Floats, NDArray[np.int64]]:
    """(3, n) directions of all rays from the camera, row by row, and the numbers of those that may meet a solid."""
    centres = (np.arange(FINE * size) + 0.5) / (FINE * size) * 2 - 1
    x, y = np.meshgrid(centres, -centres)
    depth = np.full_like(x, -FOCAL)
    cos, sin = np.cos(TILT), np.sin(TILT)
    rays = np.stack([x, y * cos + depth * sin, depth * cos - y * sin]).reshape(3, -1)
    middle = np.array([[0], [0.75 * SCALES[-1]], [0]]) - np.array(CAMERA)[:, None]
    along = (rays * middle).sum(0) / (rays * rays).sum(0)
    passed = ((rays * along - middle) ** 2).sum(0)
    near = np.flatnonzero(passed < (1.05 * SCALES[-1]) ** 2)
    return rays.astype(np.float32), near


def _turn(angle: float) -> Floats:
    """The matrix of a turn about the vertical axis."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]], dtype=np.float32)


def _ground(
    room: Room, rng: np.random.Generator, rays: Floats, sun: Floats, angle: float
) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Floor and walls: (3, n) colours, (3, n) points as seen from the camera, (n,) which of them are of the floor."""
    back = _turn(-angle)
    origin, x, z = np.array(CAMERA, dtype=np.float32), rays[0], rays[2]
    stand = back @ origin
    across, along = back[0, 0] * x + back[0, 2] * z, back[2, 0] * x + back[2, 2] * z
    with np.errstate(divide="ignore"):
        hits = [
            (np.copysign(np.float32(WALL), d) - s) / d for d, s in ((across, stand[0]), (along, stand[2]))
        ]
        down = np.where(rays[1] < 0, -origin[1] / rays[1], np.inf)
    wall = np.minimum(*hits)
    floor = down < wall
    distance = np.minimum(down, wall)
    point = origin[:, None] + distance * rays
    place = (stand[0] + distance * across, stand[2] + distance * along)
    first = hits[0] < hits[1]
    # A wall's texture runs along it and up, the floor's along both sides of the room.
    a, b = np.where(floor | ~first, place[0], place[1]), np.where(floor, place[1], point[1])
    shade = 1 + np.float32(0.12) * plane_waves(rng, rng.normal(0, 2.0, (3, 2)).astype(np.float32), a, b)
    local_sun = back @ sun
    facing = np.where(first, -np.sign(across) * local_sun[0], -np.sign(along) * local_sun[2])
    lit = np.where(floor, local_sun[1], np.maximum(facing, 0))
    shade *= _lit(lit)
    colours = np.where(
        floor, _colour(room.floor_hue, 0.55, 0.85)[:, None], _colour(room.wall_hue, 0.5, 0.9)[:, None]
    )
    return colours * shade, point, floor


def _surface(room: Room, rng: np.random.Generator, solid: str, point: Floats, sun: Floats) -> Floats:
    """(3, n) colours of points of the solid: its hue, the marks, a light texture, and the light."""
    around = np.arctan2(point[0], point[2])
    colour = np.repeat(_colour(room.object_hue, 0.75, 0.95)[:, None], point.shape[1], axis=1)
    waves = rng.normal(0, 3.0, (2, 2)).astype(np.float32)
    colour *= 1 + np.float32(0.06) * plane_waves(rng, waves, point[0] + point[2], point[1])
    for degrees, half, (low, high), brightness in MARKS:
        away = np.abs((around - np.deg2rad(degrees) + np.pi) % (2 * np.pi) - np.pi)
        marked = (away < half) & (point[1] >= low) & (point[1] <= high)
        target = np.float32(255 if brightness > 0 else 0)
        colour[:, marked] += np.float32(abs(brightness)) * (target - colour[:, marked])
    facing = np.maximum((normals(solid, point) * sun[:, None]).sum(0), 0)
    return colour * _lit(facing)


def _lit(facing: Floats) -> Floats:
    """Brightness under a light at an angle whose cosine to the surface's normal is `facing`."""
    brightness: Floats = np.float32(AMBIENT) + np.float32(1 - AMBIENT) * facing
    return brightness


def _shrunk(pixels: Floats, size: int) -> NDArray[np.uint8]:
    """Means of FINE x FINE rays, (3, n) -> (size, size, 3)."""
    columns = pixels.reshape(3, FINE * size, size, FINE)
    rows = (columns[..., 0] + columns[..., 1]).reshape(3, size, FINE, size)
    mean = (rows[:, :, 0] + rows[:, :, 1]) / np.float32(FINE * FINE)
    return rearrange(np.clip(mean + np.float32(0.5), 0, 255).astype(np.uint8), "c h w -> h w c")


def _colour(hue: int, saturation: float, value: float) -> Floats:
    return np.array(colorsys.hsv_to_rgb(hue / 10, saturation, value), dtype=np.float32) * 255
