"""The motion set against controls that see a single frame."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from tests.synthetic.sprite_pictures import render_coverage, torus_centre, wrapped
from vidssl.errors import VidsslError
from vidssl.synthetic import motions
from vidssl.synthetic.motions import MOTION_CLASSES, TRAVEL, write_sprite_dataset
from vidssl.synthetic.sprites import SCALE_RANGE, Sprite, render_clip


@pytest.fixture(scope="module")
def motion_set() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """100 clips of each of the eight classes, 8 frames at 32 pixels."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(MOTION_CLASSES)), 100)
    classes = list(MOTION_CLASSES.values())
    clips = [render_clip(classes[k].draw(rng, 8), 8, 32, seed=i) for i, k in enumerate(labels)]
    return np.stack(clips), labels


def held_out_accuracy(features: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    x = features.reshape(len(features), -1)
    x = (x - x.mean(0)) / (x.std(0) + 1e-6)
    train = np.arange(len(x)) % 4 != 0
    model = LogisticRegression(C=0.01, max_iter=300).fit(x[train], labels[train])
    return float(model.score(x[~train], labels[~train]))


@pytest.mark.parametrize("frame", [0, 4, 7])
def test_a_single_frame_does_not_tell_the_class(
    motion_set: tuple[NDArray[np.uint8], NDArray[np.int64]], frame: int
) -> None:
    clips, labels = motion_set
    pixels = clips[:, frame].astype(np.float64).reshape(-1, 8, 4, 8, 4, 3).mean((2, 4))
    # 200 held-out clips: chance is 0.125 with a standard error of 0.023.
    assert held_out_accuracy(pixels, labels) < 0.125 + 4 * 0.023


def pose_moments(sprite: Sprite, frame: int) -> list[float]:
    """Everything of the pose that a perfect image model could read off."""
    s = sprite.at(frame)
    x, y = 2 * np.pi * s.x, 2 * np.pi * s.y
    size = (np.log(s.scale / SCALE_RANGE[0])) / np.log(SCALE_RANGE[1] / SCALE_RANGE[0])
    return [np.cos(x), np.sin(x), np.cos(y), np.sin(y), np.cos(s.angle), np.sin(s.angle), size, size**2]


def test_poses_of_one_frame_do_not_tell_the_class_but_their_change_does() -> None:
    """The control with perfect features: the exact pose, first and last frame alike, and many more clips."""
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(8), 500)
    sprites = [list(MOTION_CLASSES.values())[k].draw(rng, 16) for k in labels]
    for frame in (0, 8, 15):
        single = np.array([pose_moments(s, frame) for s in sprites])
        assert held_out_accuracy(single, labels) < 0.125 + 4 * 0.0105
    change = [
        [s.at(1).x - s.x, s.at(1).y - s.y, s.at(1).angle - s.angle, s.at(1).scale / s.scale] for s in sprites
    ]
    steps = np.sign(np.round(wrapped(np.array(change) - [0, 0, 0, 1], 1.0), 6))
    assert held_out_accuracy(steps, labels) > 0.95


def test_motion_features_of_the_pixels_tell_the_class(
    motion_set: tuple[NDArray[np.uint8], NDArray[np.int64]],
) -> None:
    """Centre and area of what differs from the static background separate the six classes that move or grow."""
    clips, labels = motion_set
    bright = clips.max(-1).astype(np.float64)
    mask = np.clip((bright - 130) / 60, 0, 1)
    centre = np.stack([torus_centre(m) for m in mask])
    step = wrapped(np.diff(centre, axis=1), 32)
    growth = np.diff(np.log(mask.sum((2, 3)) + 1), axis=1)
    features = np.concatenate([np.median(step, axis=1), np.median(growth, axis=1)[:, None]], axis=1)
    chosen = (labels < 4) | (labels > 5)
    assert held_out_accuracy(features[chosen], labels[chosen]) > 0.9


@pytest.mark.parametrize("name", ["moving_right", "moving_left", "moving_up", "moving_down"])
def test_class_names_mean_image_directions(name: str) -> None:
    sprite = MOTION_CLASSES[name].draw(np.random.default_rng(0), 16)
    x, y = wrapped(np.diff(torus_centre(render_coverage(sprite, 16)), axis=0), 64).sum(0)
    along, across = {"right": (x, y), "left": (-x, y), "down": (y, x), "up": (-y, x)}[name.split("_")[1]]
    assert 64 * TRAVEL[0] - 1 < along < 64 * TRAVEL[1] + 1
    assert abs(across) < 0.5


def test_clockwise_turns_up_to_the_right() -> None:
    """An arrow that starts upright has its wide end, the head, in the upper right after an eighth of a turn."""
    drawn = MOTION_CLASSES["spinning_clockwise"].draw(np.random.default_rng(0), 16)
    spin = np.copysign(np.pi / 8, drawn.spin)
    arrow = replace(drawn, shape=2, angle=0.0, x=0.5, y=0.5, scale=1.0, spin=float(spin))
    turned = render_coverage(arrow, 3)[2]
    y, x = np.mgrid[:64, :64] - 31.5
    spread = turned * (x + y) ** 2  # squared distance from the rising diagonal, the arrow's axis
    assert spread[x > y].sum() > 3 * spread[x < y].sum()


def decode(path: Path) -> NDArray[np.uint8]:
    import av

    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2)))


def test_dataset_layout_and_determinism(tmp_path: Path) -> None:
    chosen = ["moving_up", "shrinking"]
    write_sprite_dataset(tmp_path / "a", chosen, 2, 1, frames=6, size=32, fps=4, seed=3)
    files = sorted(path.relative_to(tmp_path / "a").as_posix() for path in (tmp_path / "a").rglob("*.mp4"))
    assert files == [
        "train/moving_up/moving_up_0000.mp4",
        "train/moving_up/moving_up_0001.mp4",
        "train/shrinking/shrinking_0000.mp4",
        "train/shrinking/shrinking_0001.mp4",
        "val/moving_up/moving_up_0000.mp4",
        "val/shrinking/shrinking_0000.mp4",
    ]
    with (tmp_path / "a" / "classes.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["id"], row["name"]) for row in rows] == [("0", "moving_up"), ("1", "shrinking")]
    assert rows[0]["text"] == "a shape moving up"
    write_sprite_dataset(tmp_path / "b", ["shrinking"], 1, 0, frames=6, size=32, fps=4, seed=3)
    shrinking = "train/shrinking/shrinking_0000.mp4"
    assert np.array_equal(decode(tmp_path / "a" / shrinking), decode(tmp_path / "b" / shrinking))
    clips = [decode(tmp_path / "a" / name) for name in files]
    assert clips[0].shape == (6, 32, 32, 3)
    assert all(psnr(a, b) < 25 for a, b in combinations(clips, 2))


def test_shots_show_other_sprites_that_move_alike() -> None:
    rng = np.random.default_rng(3)
    drawn: list[Sprite] = []

    def remember(sprite: Sprite, *arguments: Any, **options: Any) -> NDArray[np.uint8]:
        drawn.append(sprite)
        return render_clip(sprite, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(motions, "render_clip", remember)
        clip = motions._render(MOTION_CLASSES["moving_left"], rng, 24, 32, shots=3, texture=0.0)
    assert clip.shape == (24, 32, 32, 3) and len(drawn) == 3
    assert len({(s.vx, s.vy, s.spin, s.zoom) for s in drawn}) == 1
    assert 0.25 <= -7 * drawn[0].vx <= 0.45  # over one shot of 8 frames
    assert len({(s.x, s.angle, s.scale) for s in drawn}) == 3


def test_wrong_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match="did you mean 'moving_right'"):
        write_sprite_dataset(tmp_path, ["moving_rihgt"])
    with pytest.raises(VidsslError, match="different names"):
        write_sprite_dataset(tmp_path, ["growing", "growing"])
    with pytest.raises(VidsslError, match="size 63: H"):
        write_sprite_dataset(tmp_path, ["growing"], size=63)
    with pytest.raises(VidsslError, match="frames 1"):
        write_sprite_dataset(tmp_path, frames=1)
    for shots in (0, 3, 8):
        with pytest.raises(VidsslError, match="must divide 8 frames"):
            write_sprite_dataset(tmp_path, frames=8, shots=shots)
    assert not any(tmp_path.iterdir())
