"""Poses of the objects: straight between walls, as fast as asked for, apart in frame 0."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vidssl.errors import VidsslError
from vidssl.synthetic.objects.scene import MARGIN, Difficulty, bounce, draw_scene

STILL = Difficulty(speed=0, spin=0, zoom=0, stretch=0, light=0, ground=0, noise=0)


@settings(max_examples=50, deadline=None)
@given(start=st.floats(MARGIN, 1 - MARGIN), step=st.floats(-0.2, 0.2))
def test_a_bouncing_path_is_a_ball_between_walls(start: float, step: float) -> None:
    """Against a simulation that turns the velocity round whenever a wall is passed."""
    path = bounce(start + step * np.arange(30))
    position, velocity = start, step
    for place in path:
        assert place == pytest.approx(position, abs=1e-9)
        position += velocity
        if not MARGIN <= position <= 1 - MARGIN:
            wall = MARGIN if position < MARGIN else 1 - MARGIN
            position, velocity = 2 * wall - position, -velocity


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6))
def test_objects_are_as_the_difficulty_says(seed: int, count: int) -> None:
    asked = Difficulty(fewest=count, most=count, distractors=2, speed=0.01)
    scene = draw_scene(np.random.default_rng(seed), 20, asked)
    assert sorted(scene.depth) == list(range(count))
    first = scene.objects[0]
    for other in scene.objects[1:3]:
        assert (other.shape, other.hue) == (first.shape, first.hue)
        assert other.texture != first.texture
    for item in scene.objects:
        steps = np.hypot(np.diff(item.x), np.diff(item.y))
        assert steps.max() <= 0.015 + 1e-12  # at a wall a step is folded, and shorter
        assert steps.max() >= 0.005 - 1e-12
        turns = np.diff(item.angle)
        assert np.ptp(turns) < 1e-12
        assert np.abs(turns).max() <= np.deg2rad(asked.spin)
        assert np.abs(item.stretch).max() <= asked.stretch
        assert np.ptp(np.log(item.radius)) <= 2 * asked.zoom
    for a in scene.objects:
        for b in scene.objects:
            distance = np.hypot(a.x[0] - b.x[0], a.y[0] - b.y[0])
            assert a is b or distance >= max(a.radius[0], b.radius[0])


def test_without_difficulties_nothing_moves() -> None:
    scene = draw_scene(np.random.default_rng(0), 10, STILL)
    for item in scene.objects:
        for path in (item.x, item.y, item.angle, item.radius, item.stretch):
            assert np.ptp(path) == 0
    assert (scene.ground_velocity == 0).all()


def test_the_number_of_objects_is_uniform() -> None:
    counts = [
        len(draw_scene(np.random.default_rng(seed), 1, Difficulty(fewest=2, most=4)).objects)
        for seed in range(300)
    ]
    assert set(counts) == {2, 3, 4}
    assert min(np.bincount(counts)[2:]) > 70


@pytest.mark.parametrize("name", [field.name for field in fields(Difficulty)])
def test_an_impossible_amount_is_named(name: str) -> None:
    value = -1 if name not in {"fewest", "most"} else 9
    with pytest.raises(VidsslError, match=f"{name}={value}"):
        replace(Difficulty(), **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "said"), [("light", 1.0, "below 1"), ("zoom", 0.6, "0.5"), ("stretch", 2, "0.5"), ("speed", 0.3, "0.25"), ("noise", float("nan"), "nan")]
)  # fmt: skip
def test_limits_are_named(name: str, value: float, said: str) -> None:
    with pytest.raises(VidsslError, match=said):
        replace(Difficulty(), **{name: value})
