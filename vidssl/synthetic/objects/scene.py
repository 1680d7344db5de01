"""What a sequence of several sprites shows: who is there, in which order of depth, and where each is in every frame.

Paths bounce: a centre keeps its velocity until it reaches a wall at MARGIN inside the frame, and returns. Nothing wraps
round, so that no object jumps, and nothing leaves, so that every object can be asked for in every frame unless another
one hides it. Lengths are fractions of the frame's side; x points right, y down, angles are clockwise from upright.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from vidssl.errors import VidsslError, check_value
from vidssl.synthetic.shapes import SHAPES
from vidssl.synthetic.sprites import HUES

MARGIN = 0.1  # between a wall, at which centres bounce, and the border of the frame
RADII = (0.13, 0.2)  # of the bounding circle, where nothing zooms
PERIODS = (16.0, 40.0)  # frames of one cycle of whatever swings: size, stretch, light
MOST_OBJECTS = 6
_PLACES = 200  # tried for each object until one is apart from those before it


@dataclass(frozen=True)
class Difficulty:
    """What makes following an object hard; every amount at 0 takes that difficulty out.

    Attributes:
        fewest, most: number of objects, uniform between both (1 to 6).
        distractors: how many of the others have the shape and the hue of object 1 (fewer where there are fewer others).
        speed: of the centres on average, frame sides a frame; each object's is uniform between half and one and a half of it.
        spin: largest turn, degrees a frame; each object's is uniform up to it, to either side.
        zoom: amplitude with which the logarithm of an object's size swings.
        stretch: the same of the ratio of its length to its width, whose product stays.
        light: depth of shadows that drift over the scene, and of the swing of the light's colour, below 1.
        ground: speed of the background, frame sides a frame.
        texture: strength of the textures; at 0 distractors cannot be told from object 1.
        noise: standard deviation of independent noise on every pixel, of 255.
    """

    fewest: int = 2
    most: int = 4
    distractors: int = 1
    speed: float = 0.02
    spin: float = 6.0
    zoom: float = 0.2
    stretch: float = 0.2
    light: float = 0.5
    ground: float = 0.01
    texture: float = 1.0
    noise: float = 3.0

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most <= MOST_OBJECTS:
            raise VidsslError(
                f"fewest={self.fewest}, most={self.most}: must be 1 <= fewest <= most <= {MOST_OBJECTS}"
            )
        for field in fields(self)[2:]:
            value = getattr(self, field.name)
            check_value(field.name, value, bool(0 <= value < float("inf")), "a number of at least 0")
        check_value("light", self.light, self.light < 1, "below 1")
        for name in ("zoom", "stretch"):
            value = getattr(self, name)
            check_value(name, value, value <= 0.5, "at most 0.5")
        check_value("speed", self.speed, self.speed <= 0.25, "at most 0.25 frame sides a frame")


@dataclass(frozen=True)
class SceneObject:
    """One object: its looks, and its pose in every frame.

    Attributes:
        shape, hue: indices into SHAPES and HUES. texture: seed of its texture.
        x, y: (T,) centre, fractions of the side. angle: (T,) radians.
        radius: (T,) of the bounding circle. stretch: (T,) log of the factor on the width, and of its inverse on the height.
    """

    shape: int
    hue: int
    texture: int
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    angle: NDArray[np.float64]
    radius: NDArray[np.float64]
    stretch: NDArray[np.float64]


@dataclass(frozen=True)
class ObjectScene:
    """Everything that a sequence shows.

    Attributes:
        objects: number i in this list is identity i + 1. depth: their indices, the farthest first.
        ground_hue: index into HUES. ground_velocity: (2,) frame sides a frame.
        looks: seed of background, light and noise. difficulty: the amounts of them.
    """

    objects: list[SceneObject]
    depth: list[int]
    ground_hue: int
    ground_velocity: NDArray[np.float64]
    looks: int
    difficulty: Difficulty

    def in_front(self, index: int) -> ObjectScene:
        """The same scene with one object before all others."""
        return replace(self, depth=[i for i in self.depth if i != index] + [index])


def bounce(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """Free motion folded between the walls, MARGIN and 1 - MARGIN: a triangle wave of the position."""
    width = 1 - 2 * MARGIN
    return MARGIN + width - np.abs((position - MARGIN) % (2 * width) - width)


def draw_scene(rng: np.random.Generator, frames: int, difficulty: Difficulty) -> ObjectScene:
    """A random scene; in frame 0 the objects stand apart, so that each shows."""
    count = int(rng.integers(difficulty.fewest, difficulty.most + 1))
    time = np.arange(frames)
    radii = [rng.uniform(*RADII) * np.exp(difficulty.zoom * swing(rng, time)) for _ in range(count)]
    places = _places(rng, np.array([radius[0] for radius in radii]))
    shapes, hues = rng.integers(len(SHAPES), size=count), rng.integers(len(HUES), size=count)
    alike = slice(1, 1 + difficulty.distractors)
    shapes[alike], hues[alike] = shapes[0], hues[0]
    objects = []
    for index in range(count):
        heading = rng.uniform(0, 2 * np.pi)
        step = difficulty.speed * rng.uniform(0.5, 1.5) * np.array([np.cos(heading), np.sin(heading)])
        spin = np.deg2rad(difficulty.spin) * rng.uniform(-1, 1)
        x, y = bounce(places[index, :, None] + step[:, None] * time)
        objects.append(
            SceneObject(
                shape=int(shapes[index]),
                hue=int(hues[index]),
                texture=int(rng.integers(2**31)),
                x=x,
                y=y,
                angle=rng.uniform(0, 2 * np.pi) + spin * time,
                radius=radii[index],
                stretch=difficulty.stretch * swing(rng, time),
            )
        )
    heading = rng.uniform(0, 2 * np.pi)
    return ObjectScene(
        objects=objects,
        depth=[int(index) for index in rng.permutation(count)],
        ground_hue=int(rng.integers(len(HUES))),
        ground_velocity=difficulty.ground * np.array([np.cos(heading), np.sin(heading)]),
        looks=int(rng.integers(2**31)),
        difficulty=difficulty,
    )


def swing(rng: np.random.Generator, time: NDArray[np.int64]) -> NDArray[np.float64]:
    """(T,) a sine of random period and phase."""
    period, phase = rng.uniform(*PERIODS), rng.uniform(0, 2 * np.pi)
    wave: NDArray[np.float64] = np.sin(2 * np.pi * time / period + phase)
    return wave


def _places(rng: np.random.Generator, radii: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 2) centres in frame 0, each outside the circles of the others; where they are too crowded, the least bad."""
    places = np.empty((len(radii), 2))
    for index, radius in enumerate(radii):
        tried = rng.uniform(MARGIN, 1 - MARGIN, (_PLACES, 2))
        others = radii[:index]
        apart = np.maximum(others, radius) + 0.5 * np.minimum(others, radius)
        room = np.linalg.norm(tried[:, None] - places[:index], axis=-1) - apart
        least = room.min(-1, initial=np.inf)
        places[index] = tried[np.argmax(least >= 0) if (least >= 0).any() else np.argmax(least)]
    return places
