"""What is said of the objects against the pixels: each drawn alone, supersampled, looked for by brute force."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.synthetic.objects.test_scene import STILL
from vidssl.errors import VidsslError
from vidssl.synthetic.objects.render import HIDDEN, KEYPOINTS, NOISE, object_clip, render_scene
from vidssl.synthetic.objects.scene import Difficulty, ObjectScene, draw_scene
from vidssl.synthetic.shapes import SHAPES
from vidssl.synthetic.sprites import HUES

CROWD = Difficulty(fewest=6, most=6, speed=0.03)


def scene_of(seed: int, frames: int = 6, difficulty: Difficulty = CROWD) -> ObjectScene:
    return draw_scene(np.random.default_rng(seed), frames, difficulty)


def alone(scene: ObjectScene, index: int, size: int) -> NDArray[np.bool_]:
    """(T, H, W): where one object is, with nobody before it."""
    item = replace(scene, objects=[scene.objects[index]], depth=[0])
    return render_scene(item, size).masks == 1


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_mask_is_the_object_drawn_alone_without_what_stands_before_it(seed: int) -> None:
    scene = scene_of(seed)
    masks = render_scene(scene, 64).masks
    covered = np.zeros(masks.shape, dtype=bool)
    for index in reversed(scene.depth):
        shape = alone(scene, index, 64)
        assert np.array_equal(masks == index + 1, shape & ~covered)
        covered |= shape
    assert np.array_equal(masks == 0, ~covered)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_boxes_are_the_bounds_of_the_masks(seed: int) -> None:
    clip = render_scene(scene_of(seed, frames=3), 48)
    for mask, boxes in zip(clip.masks, clip.boxes, strict=True):
        for identity, (x, y, width, height) in enumerate(boxes.tolist(), start=1):
            rows, columns = np.nonzero(mask == identity)
            if len(rows) == 0:
                assert (x, y, width, height) == (0, 0, 0, 0)
            else:
                bounds = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                assert (x, y, x + width, y + height) == bounds


def test_an_object_that_is_hidden_has_no_box_and_no_key_points() -> None:
    scene = scene_of(0, frames=2, difficulty=replace(STILL, fewest=2, most=2))
    big = replace(
        scene.objects[1], x=scene.objects[0].x, y=scene.objects[0].y, radius=np.full(2, 0.9), shape=0
    )
    clip = render_scene(replace(scene, objects=[scene.objects[0], big], depth=[0, 1]), 64)
    assert not (clip.masks == 1).any()
    assert (clip.boxes[:, 0] == 0).all()
    assert (clip.keypoints[:, 0] == HIDDEN).all()
    assert (clip.keypoints[:, 1] != HIDDEN).any()


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_key_point_lies_on_its_object_and_turns_moves_and_grows_with_it(seed: int) -> None:
    """The points of a frame are an affine image of those of the shape: the residual of the best one is nothing."""
    scene = scene_of(seed)
    clip = render_scene(scene, 96)
    for index, item in enumerate(scene.objects):
        local = np.array(list(KEYPOINTS.values())[item.shape])
        for frame, points in enumerate(clip.keypoints[:, index]):
            seen = (points != HIDDEN).all(-1)
            assert np.array_equal(seen, (points != HIDDEN).any(-1))
            for x, y in points[seen]:
                assert clip.masks[frame, int(y), int(x)] == index + 1
            if seen.sum() > 3:
                design = np.column_stack([local[seen], np.ones(seen.sum())])
                fit, *_ = np.linalg.lstsq(design, points[seen], rcond=None)
                np.testing.assert_allclose(design @ fit, points[seen], atol=1e-9)
                assert fit[2] == pytest.approx([96 * item.x[frame], 96 * item.y[frame]])
                assert np.linalg.det(fit[:2]) == pytest.approx((96 * item.radius[frame]) ** 2)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_the_points_of_a_shape_lie_inside_it_and_are_seen_when_nothing_hides_them(shape: int) -> None:
    points = np.array(list(KEYPOINTS.values())[shape], dtype=np.float32)
    assert (list(SHAPES.values())[shape](points[:, 0], points[:, 1]) <= -0.14).all()
    scene = scene_of(3, frames=20, difficulty=Difficulty(fewest=1, most=1))
    item = replace(scene.objects[0], shape=shape)
    clip = render_scene(replace(scene, objects=[item]), 128)
    inside = (clip.boxes[..., :2] > 0).all(-1) & ((clip.boxes[..., :2] + clip.boxes[..., 2:]) < 128).all(-1)
    assert inside.any()
    assert (clip.keypoints[inside] != HIDDEN).all()


def test_masks_move_as_the_poses_say() -> None:
    """The centroid of a mask keeps its offset to the centre of an object that only moves; its area that of one that turns."""
    scene = scene_of(5, frames=12, difficulty=replace(STILL, fewest=1, most=1, speed=0.02))
    item, size = scene.objects[0], 128
    masks = render_scene(scene, size).masks == 1
    y, x = (
        (masks * (np.arange(size) + 0.5).reshape(shape)).sum((1, 2)) / masks.sum((1, 2))
        for shape in ((-1, 1), (1, -1))
    )
    assert np.hypot(np.diff(x), np.diff(y)).max() > 1
    np.testing.assert_allclose(np.diff(x), size * np.diff(item.x), atol=0.25)
    np.testing.assert_allclose(np.diff(y), size * np.diff(item.y), atol=0.25)
    turning = replace(item, angle=np.linspace(0, 3, 12), x=np.full(12, 0.5), y=np.full(12, 0.5))
    areas = (render_scene(replace(scene, objects=[turning]), size).masks == 1).sum((1, 2))
    np.testing.assert_allclose(areas, areas.mean(), rtol=0.03)


def test_stretching_keeps_the_area_and_growing_squares_it() -> None:
    scene = scene_of(5, frames=8, difficulty=replace(STILL, fewest=1, most=1))
    item = replace(scene.objects[0], x=np.full(8, 0.5), y=np.full(8, 0.5))
    stretched = replace(item, stretch=np.linspace(-0.3, 0.3, 8))
    grown = replace(item, radius=item.radius * np.linspace(1, 2, 8))
    area = [
        (render_scene(replace(scene, objects=[o]), 128).masks == 1).sum((1, 2)) for o in (stretched, grown)
    ]
    np.testing.assert_allclose(area[0], area[0].mean(), rtol=0.03)
    np.testing.assert_allclose(area[1] / area[1][0], np.linspace(1, 2, 8) ** 2, rtol=0.03)


def test_the_same_scene_at_any_resolution() -> None:
    scene = scene_of(1, frames=2)
    fine, coarse = (render_scene(scene, size) for size in (256, 64))
    agree = fine.masks[:, 2::4, 2::4] == coarse.masks
    assert agree.mean() > 0.97
    both = (fine.keypoints != HIDDEN) & (coarse.keypoints != HIDDEN)
    np.testing.assert_allclose(fine.keypoints[both], 4 * coarse.keypoints[both])


def test_an_object_keeps_its_looks_and_distractors_differ_in_texture_alone() -> None:
    plain = replace(STILL, fewest=3, most=3, distractors=2, texture=0, speed=0.02)
    scene = scene_of(2, difficulty=plain)
    clip = render_scene(scene, 96)
    hue = list(HUES.values())[scene.objects[0].hue]
    for identity in (1, 2, 3):
        colours = clip.frames[clip.masks == identity].astype(float)
        middle = np.median(colours, axis=0)
        assert (np.abs(colours - middle).max(-1) < 3).mean() > 0.6  # all but the soft outline
        assert 1 - middle.min() / middle.max() == pytest.approx(0.6, abs=0.02)  # the saturation
        red, green, blue = middle / 255
        found = 360 * colorsys.rgb_to_hsv(red, green, blue)[0]
        assert (found - hue + 180) % 360 - 180 == pytest.approx(0, abs=2)
    textured = render_scene(replace(scene, difficulty=replace(plain, texture=1)), 96)
    for identity in (1, 2, 3):
        seen = [c.frames[c.masks == identity] for c in (clip, textured)]
        spread = [np.ptp(np.percentile(colours, (30, 70), axis=0), axis=0).max() for colours in seen]
        assert spread[0] < spread[1]


@pytest.mark.parametrize("name", ["light", "ground", "noise", "texture"])
def test_looks_change_pixels_and_no_truth(name: str) -> None:
    hard = object_clip(0, 1, 4, 64)
    easy = object_clip(0, 1, 4, 64, replace(Difficulty(), **{name: 0}))
    assert not np.array_equal(hard.frames, easy.frames)
    assert np.array_equal(hard.masks, easy.masks)
    assert np.array_equal(hard.keypoints, easy.keypoints)


def test_light_changes_in_time_and_place_and_never_brightens() -> None:
    calm = replace(STILL, texture=0)
    dark, bright = (
        object_clip(4, 0, 16, 64, replace(calm, light=light)).frames.astype(int) for light in (0.7, 0)
    )
    assert (dark <= bright).all()
    assert np.ptp(bright, axis=0).max() == 0
    ground = dark.mean((1, 2))
    assert (ground.std(0) > 3).all()
    cast = ground / ground.sum(-1, keepdims=True)
    assert cast.std(0).max() > 0.01


def test_noise_is_normal_independent_and_of_the_strength_asked_for() -> None:
    assert NOISE.std() == pytest.approx(1)
    assert (np.sort(NOISE) == NOISE).all()
    a, b = (object_clip(4, 0, 8, 64, replace(STILL, noise=noise)).frames.astype(float) for noise in (6, 0))
    noise = a - b
    assert noise.std() == pytest.approx(6, rel=0.03)
    assert abs(noise.mean()) < 0.2
    for axis in range(4):
        pair = np.moveaxis(noise, axis, 0)
        assert abs(np.corrcoef(pair[:-1].ravel(), pair[1:].ravel())[0, 1]) < 0.02


def test_clips_depend_on_seed_index_and_split_alone() -> None:
    clip = object_clip(3, 2, 5, 32)
    again = object_clip(3, 2, 5, 32)
    assert clip.frames.tobytes() == again.frames.tobytes()
    assert clip.masks.tobytes() == again.masks.tobytes()
    assert clip.keypoints.tobytes() == again.keypoints.tobytes()
    for seed, index, split in ((4, 2, "sequences"), (3, 1, "sequences"), (3, 2, "videos")):
        assert not np.array_equal(clip.frames, object_clip(seed, index, 5, 32, split=split).frames)


def test_object_1_is_seen_in_every_frame_and_all_are_in_the_first() -> None:
    """Even in a crowd of six, where it is hidden altogether now and then when its depth is left to chance."""
    hidden = 0
    swelling = replace(CROWD, zoom=0.5, stretch=0.5)
    for index in (*range(8), 29, 48, 58):
        clip = object_clip(0, index, 24, 32, swelling)
        assert (clip.boxes[:, 0, 2:] > 0).all()
        assert (clip.boxes[0, :, 2:] > 0).all()
        drawn = draw_scene(np.random.default_rng((0, 0, index)), 24, swelling)
        hidden += not (render_scene(drawn, 32).masks == 1).any((1, 2)).all()
    assert hidden == 3


@pytest.mark.parametrize("arguments", [(0, 0, 0, 64), (0, 0, 1, 8), (-1, 0, 1, 64), (0, -1, 1, 64)])
def test_counts_that_cannot_be_are_refused(arguments: tuple[int, int, int, int]) -> None:
    with pytest.raises(VidsslError, match="must be at least"):
        object_clip(*arguments)
