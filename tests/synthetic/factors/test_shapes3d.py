"""The room against a textbook camera: points of floor, walls and solid are projected and looked for among the pixels."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from vidssl.synthetic.factors.shapes3d import (
    CAMERA,
    CAMERA_VELOCITIES,
    ELEVATION,
    FACTORS,
    FOCAL,
    SCALES,
    SPINS,
    TILT,
    WALL,
    render_clip,
    render_room,
    room_of,
)
from vidssl.synthetic.factors.solids import SOLIDS

PLAIN = {
    "floor_hue": 0,  # red
    "wall_hue": 3,  # green
    "object_hue": 6,  # blue
    "scale": 7,
    "shape": 2,
    "orientation": 0,
    "light_azimuth": 0,
    "camera_velocity": 2,
    "object_spin": 2,
}
SIZE = 96
Points = NDArray[np.float64]


def turned(points: Points, angle: float) -> Points:
    """(n, 3) points after a turn about the vertical axis that takes z towards x."""
    x, y, z = points.T
    return np.stack(
        [x * np.cos(angle) + z * np.sin(angle), y, z * np.cos(angle) - x * np.sin(angle)], axis=-1
    )


def project(points: Points, azimuth: float) -> Points:
    """(n, 2) pixel column and row of points in the room, seen by a camera that stands at `azimuth`; NaN behind it."""
    at = turned(points, -azimuth) - np.array(CAMERA)
    right, depth = at[:, 0], -at[:, 2] * np.cos(TILT) - at[:, 1] * np.sin(TILT)
    up = at[:, 1] * np.cos(TILT) - at[:, 2] * np.sin(TILT)
    depth = np.where(depth > 0, depth, np.nan)
    return SIZE / 2 * (1 + FOCAL * np.stack([right, -up], axis=-1) / depth[:, None])


@pytest.mark.parametrize("velocity", range(3))
def test_floor_and_walls_are_where_a_camera_that_moves_as_labelled_sees_them(velocity: int) -> None:
    rng = np.random.default_rng(0)
    room = room_of(PLAIN | {"camera_velocity": velocity, "scale": 0}, 12, seed=3)
    clip = render_room(room, SIZE)
    for frame in (0, 5, 11):
        azimuth = -room.room[0] + CAMERA_VELOCITIES[velocity] * frame
        floor = (WALL - 0.15) * rng.uniform(-1, 1, (4000, 3)) * (1, 0, 1)  # an edge's pixels mix
        wall = rng.uniform(-WALL, WALL, (4000, 3))
        wall[:, 1] = np.abs(wall[:, 1]) + 0.15
        wall[np.arange(4000), rng.choice([0, 2], 4000)] = WALL * rng.choice([-1, 1], 4000)
        for points, expected in ((floor, 0), (wall, 3)):
            assert agreement(clip[frame], points, azimuth, expected) > 0.98
        assert agreement(clip[frame], floor, azimuth + np.deg2rad(20), 0) < 0.97  # the test can fail


def agreement(frame: NDArray[np.uint8], points: Points, azimuth: float, hue: float) -> float:
    """Of the points that the solid does not hide, the fraction whose pixels have a hue."""
    places = project(points, azimuth)
    inside = ((places >= 0) & (places < SIZE)).all(-1)
    column, row = places[inside].astype(int).T
    found = np.array([10 * colorsys.rgb_to_hsv(*(pixel / 255))[0] for pixel in frame[row, column]])
    open_ = np.abs(found - PLAIN["object_hue"]) > 1
    assert open_.sum() > 300
    return float((np.abs((found - hue + 5) % 10 - 5) < 0.5)[open_].mean())


@pytest.mark.parametrize("spin", range(3))
@pytest.mark.parametrize("orientation", [0, 2, 13])
def test_the_white_stripe_is_where_the_labels_say(spin: int, orientation: int) -> None:
    """The middle of the stripe on the ball, when it faces the camera, and nowhere else on the ball's equator."""
    labels = PLAIN | {"object_spin": spin, "orientation": orientation}
    frames = 12
    room = room_of(labels, frames, seed=1)
    clip = render_room(room, SIZE)
    radius = 0.6 * SCALES[PLAIN["scale"]]
    seen = 0
    for frame in range(frames):
        azimuth = -room.room[0] + CAMERA_VELOCITIES[2] * frame
        world = -room.room[0] + 2 * np.pi * orientation / 15 + SPINS[spin] * frame
        facing = (world - azimuth + np.pi) % (2 * np.pi) - np.pi
        if abs(facing) > 0.9:
            continue
        seen += 1
        saturation = []
        for offset in (0.0, -0.6 if facing > 0 else 0.6):  # the stripe, and beside it, nearer to the middle
            point = turned(np.array([[0.0, radius, radius]]), world + offset)
            column, row = project(point, azimuth)[0].astype(int)
            saturation.append(colorsys.rgb_to_hsv(*(clip[frame, row, column] / 255))[1])
        assert saturation[0] < 0.25 < 0.5 < saturation[1], frame
    assert seen > 0


def test_three_frames_of_spin_are_one_step_of_orientation() -> None:
    still = PLAIN | {"camera_velocity": 1, "orientation": 3}
    for shape in range(4):
        spun = render_clip(still | {"shape": shape}, 4, SIZE, 0)[3].astype(int)
        there = render_clip(still | {"shape": shape, "orientation": 4}, 1, SIZE, 0)[0].astype(int)
        back = render_clip(still | {"shape": shape, "object_spin": 0, "orientation": 5}, 4, SIZE, 0)[
            3
        ].astype(int)
        assert np.abs(spun - there).mean() < 0.01
        assert np.abs(spun - back).mean() < 0.01
        assert np.abs(spun - render_clip(still | {"shape": shape}, 1, SIZE, 0)[0]).mean() > 0.2


@pytest.mark.parametrize("shape", range(4))
def test_every_orientation_shows_at_the_smallest_scale(shape: int) -> None:
    clips = [
        render_clip(PLAIN | {"shape": shape, "scale": 0, "orientation": k}, 1, 64, 0)[0].astype(int)
        for k in range(15)
    ]
    for a, b in combinations(clips, 2):
        assert (np.abs(a - b).max(-1) > 30).sum() >= 12


def test_shadows_lie_away_from_the_light_and_only_the_ambient_light_is_left_in_them() -> None:
    labels = PLAIN | {"shape": 1, "scale": 0}
    frames = np.array([render_clip(labels | {"light_azimuth": k}, 1, SIZE, 2)[0] for k in range(4)]) / 255.0
    centres = []
    for light in range(4):
        ratio = frames[light, ..., 0] / frames[(light + 2) % 4, ..., 0]
        floor = (frames[[light, (light + 2) % 4]].argmax(-1) == 0).all(0)
        row, column = np.nonzero(floor & (ratio < 0.65))
        expected = 0.5 / (0.5 + 0.5 * np.sin(ELEVATION))
        assert np.median(ratio[row, column]) == pytest.approx(expected, abs=0.02)
        centres.append((column.mean() - SIZE / 2, row.mean()))
    (a, near_a), (b, far_b), (c, far_c), (d, near_d) = (
        centres  # lights at 45, 135, 225 and 315 degrees, of which 0 is the camera's
    )
    assert a < -3
    assert b < -3
    assert c > 3
    assert d > 3
    assert min(far_b, far_c) > max(near_a, near_d) + 3
    # From behind it, the light that passes at 0.8 of the height meets the floor where it is computed to.
    room = room_of(labels | {"light_azimuth": 1}, 1, seed=2)
    far = 0.8 * 1.1 * SCALES[0] / np.tan(ELEVATION)
    point = turned(np.array([[0.0, 0.0, -far]]), 0.75 * np.pi - room.room[0])
    x, y = project(point, -room.room[0])[0].astype(int)
    assert frames[1, y, x, 0] / frames[3, y, x, 0] == pytest.approx(expected, abs=0.05)


def test_labels_of_hue_and_scale_are_measured() -> None:
    for hue in range(FACTORS["floor_hue"]):
        labels = PLAIN | {"floor_hue": hue, "wall_hue": (hue + 3) % 10, "object_hue": (hue + 6) % 10}
        frame = render_clip(labels, 1, SIZE, 0)[0] / 255
        hues = np.array([[10 * colorsys.rgb_to_hsv(*pixel)[0] for pixel in row] for row in frame[::4, ::4]])
        nearest = np.round(hues).astype(int) % 10
        assert (nearest[-3:] == hue).mean() > 0.9
        assert (nearest[:2] == (hue + 3) % 10).mean() > 0.9
        assert (nearest == (hue + 6) % 10).sum() > 10
    blue = [
        [
            (
                render_clip(PLAIN | {"shape": shape, "scale": scale}, 1, SIZE, 0)[0].astype(int) @ [-1, -1, 2]
                > 60
            ).sum()
            for scale in range(8)
        ]
        for shape in range(len(SOLIDS))
    ]
    assert (np.diff(blue, axis=1) > 0).all()


def test_what_moves_depends_on_the_motion_alone() -> None:
    """Neither moves: every frame is the first. The textures and the room's angle come from the seed."""
    still = PLAIN | {"camera_velocity": 1, "object_spin": 1}
    clip = render_clip(still, 3, 32, 0)
    assert (clip == clip[0]).all()
    assert not np.array_equal(clip, render_clip(still, 3, 32, 1))
    room = room_of(still, 1, 0)
    assert not np.array_equal(clip[:1], render_room(replace(room, looks=room.looks + 1), 32))
