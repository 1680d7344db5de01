"""The sprite scene against closed forms (centres, areas, wraps) and its motion set against single-frame controls."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import mutual_info_score

from vidssl.errors import VidsslError
from vidssl.synthetic import sprites
from vidssl.synthetic.captions import (
    ORIENTATION_WORDS,
    POSITION_WORDS,
    captioned_frames,
    compose_caption,
    frame_words,
)
from vidssl.synthetic.motions import MOTION_CLASSES, TRAVEL, write_clip, write_sprite_dataset
from vidssl.synthetic.shapes import SHAPES
from vidssl.synthetic.sprites import (
    FACTORS,
    SCALE_RANGE,
    SPEEDS,
    Sprite,
    SpriteFactors,
    random_sprite,
    render_clip,
    sample_factors,
)

STILL = Sprite(shape=0, fg_hue=0, bg_hue=5, scale=0.7, angle=0.3, x=0.5, y=0.5)


def render_coverage(sprite: Sprite, frames: int = 16, size: int = 64) -> NDArray[np.float32]:
    """How much of each pixel the sprite covers, (T, H, W) in [0, 1]."""
    return sprites._coverage(sprite.shape, *sprites._local_coordinates(sprite, frames, size))


def frame_caption(sprite: Sprite, frame: float = 0) -> str:
    return compose_caption(frame_words(sprite.at(frame)))


def torus_centre(coverage: NDArray[np.floating]) -> NDArray[np.float64]:
    """Centre of mass on the torus, (T, 2) as x, y in pixels: the angle of the first Fourier coefficient."""
    size = coverage.shape[-1]
    wave = np.exp(2j * np.pi * np.arange(size) / size)
    mass = coverage.astype(np.float64)
    first = np.stack([mass.sum(1) @ wave, mass.sum(2) @ wave], axis=-1)
    return np.angle(first) / (2 * np.pi) * size


def wrapped(shift: NDArray[np.float64], period: float) -> NDArray[np.float64]:
    return (shift + period / 2) % period - period / 2


def phase_correlation(a: NDArray[np.floating], b: NDArray[np.floating]) -> tuple[int, int]:
    """The (x, y) shift in pixels that takes image a to b, by the peak of the normalised cross-power spectrum."""
    spectrum = np.fft.fft2(b) * np.conj(np.fft.fft2(a))
    peak = np.unravel_index(np.argmax(np.fft.ifft2(spectrum / (np.abs(spectrum) + 1e-9)).real), a.shape)
    y, x = (int(wrapped(np.array(float(p)), n)) for p, n in zip(peak, a.shape, strict=True))
    return x, y


def test_factors_are_uniform_and_pairwise_independent() -> None:
    n = 6000
    table = sample_factors(np.random.default_rng(0), n)
    assert list(table) == list(FACTORS)
    for name, count in FACTORS.items():
        observed = np.bincount(table[name], minlength=count)
        statistic = ((observed - n / count) ** 2 / (n / count)).sum()
        assert len(observed) == count and statistic < chi2.ppf(1 - 1e-4, count - 1), name
    for a, b in combinations(FACTORS, 2):
        # 2 N I is chi-square with (|a|-1)(|b|-1) degrees of freedom when a and b are independent.
        g = 2 * n * mutual_info_score(table[a], table[b])
        assert g < chi2.ppf(1 - 1e-5, (FACTORS[a] - 1) * (FACTORS[b] - 1)), (a, b)


def test_fixed_factors_leave_the_others_alone() -> None:
    free = sample_factors(np.random.default_rng(3), 50)
    held = sample_factors(np.random.default_rng(3), 50, fixed={"shape": 2})
    assert (held["shape"] == 2).all()
    assert all((held[name] == free[name]).all() for name in FACTORS if name != "shape")


@pytest.mark.parametrize(
    ("fixed", "message"), [({"shpae": 0}, "did you mean 'shape'"), ({"shape": 4}, "allowed: 0 to 3")]
)
def test_wrong_factors_are_named(fixed: dict[str, int], message: str) -> None:
    with pytest.raises(VidsslError, match=message):
        sample_factors(np.random.default_rng(0), 3, fixed=fixed)
    if "shape" in fixed:
        with pytest.raises(VidsslError, match=message):
            SpriteFactors(**fixed)


def test_render_is_a_pure_function_and_every_argument_matters() -> None:
    factors = SpriteFactors.row(sample_factors(np.random.default_rng(1), 1), 0)
    clip = render_clip(factors, seed=5)
    assert clip.shape == (16, 64, 64, 3) and clip.dtype == np.uint8
    assert np.array_equal(clip, render_clip(factors, seed=5))
    assert np.array_equal(clip[:4], render_clip(factors, frames=4, seed=5))
    assert not np.array_equal(clip, render_clip(factors, seed=6))
    plain = render_clip(factors, seed=5, texture=0.0)
    assert np.array_equal(
        plain, render_clip(factors, seed=6, texture=0.0)
    )  # the seed is of the textures alone
    for name, count in FACTORS.items():
        other = replace(factors, **{name: (getattr(factors, name) + 1) % count})
        assert not np.array_equal(clip, render_clip(other, seed=5)), name
    with pytest.raises(VidsslError, match="frames=0"):
        render_clip(factors, frames=0)


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_coverage_agrees_with_supersampling(shape: int) -> None:
    """Area of each pixel inside the hard outline, from 16 x 16 samples a pixel."""
    sprite = replace(STILL, shape=shape, x=0.52, y=0.47)
    coverage = render_coverage(sprite, frames=1)[0]
    fine = render_coverage(sprite, frames=1, size=64 * 16)[0] > 0.5
    exact = fine.reshape(64, 16, 64, 16).mean((1, 3))
    assert np.abs(coverage - exact).max() < 0.3  # mitred corners and slanted edges
    assert np.abs(coverage - exact).sum() < 0.03 * exact.sum()
    assert abs(coverage.sum() / exact.sum() - 1) < 0.01
    assert ((coverage > 0) & (coverage < 1)).any()


@settings(max_examples=25, deadline=None)
@given(
    shape=st.integers(0, 3),
    angle=st.floats(0, 6.28),
    dx=st.floats(-0.5, 0.5),
    dy=st.floats(-0.5, 0.5),
)
def test_subpixel_shifts_move_the_centre_by_as_much(shape: int, angle: float, dx: float, dy: float) -> None:
    """Without anti-aliasing the centre would stick to the pixel grid: the same shift of a hard mask fails below.

    In 4,000 random cases the error reached 0.10 pixels, at the thin end of the L; a hard mask's is up to 1.
    """
    sprite = replace(STILL, shape=shape, angle=angle)
    moved = replace(sprite, x=sprite.x + dx / 64, y=sprite.y + dy / 64)
    shift = torus_centre(render_coverage(moved, 1)) - torus_centre(render_coverage(sprite, 1))
    assert np.abs(wrapped(shift[0], 64) - (dx, dy)).max() < 0.15


def test_a_hard_mask_is_not_equivariant() -> None:
    sprite = replace(STILL, shape=3, angle=0.0)
    moved = replace(sprite, x=sprite.x + 0.2 / 64)
    hard = [torus_centre((render_coverage(s, 1) > 0.5).astype(float)) for s in (sprite, moved)]
    assert abs((hard[1] - hard[0])[0, 0] - 0.2) > 0.1


def test_the_scene_is_a_torus() -> None:
    """Shifting the sprite by whole pixels rolls the frame, across the border too."""
    centre = render_coverage(STILL, 1)[0]
    corner = render_coverage(replace(STILL, x=0.5 + 30 / 64, y=0.5 + 30 / 64), 1)[0]
    assert corner[:, 0].max() > 0.5
    assert corner[0].max() > 0.5
    np.testing.assert_allclose(corner, np.roll(centre, (30, 30), (0, 1)), atol=1e-4)


@pytest.mark.parametrize("direction", range(8))
def test_sprites_move_as_labelled(direction: int) -> None:
    factors = SpriteFactors(
        shape=1, scale=3, fg_hue=4, direction=direction, speed=2, spin=2, zoom=1, x0=6, y0=1
    )
    heading = direction * np.pi / 4
    step = 64 * SPEEDS[2] * np.array([np.cos(heading), np.sin(heading)])
    steps = wrapped(np.diff(torus_centre(render_coverage(factors.sprite())), axis=0), 64)
    np.testing.assert_allclose(steps, np.broadcast_to(step, steps.shape), atol=0.06)
    # The rendered pixels say the same, up to the static background, which is gone from a difference of two clips.
    with_sprite = render_clip(factors, seed=2).astype(float)
    first = with_sprite - np.median(with_sprite, axis=0)
    x, y = phase_correlation(first[0].sum(-1), first[1].sum(-1))
    assert np.abs(np.array([x, y]) - step).max() <= 1


def test_spin_and_zoom_follow_their_closed_forms() -> None:
    factors = SpriteFactors(shape=2, scale=2, angle0=1, spin=4, zoom=2, speed=0)
    sprite = factors.sprite()
    # Twelve frames of +7.5 degrees (clockwise) are a quarter turn: the same as starting there.
    turning = replace(STILL, shape=2, angle=0.0, spin=float(np.deg2rad(7.5)))
    quarter = np.rot90(render_coverage(replace(turning, spin=0.0), 1)[0], k=-1)
    np.testing.assert_allclose(render_coverage(turning, 13)[12], quarter, atol=1e-3)
    area = render_coverage(sprite, 16).sum((1, 2))
    np.testing.assert_allclose(area / area[0], np.exp(2 * sprite.zoom * np.arange(16)), rtol=0.03)
    assert np.isclose(sprite.at(15).angle, (np.pi / 4 + 15 * sprite.spin) % (2 * np.pi))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), frame=st.floats(0, 40))
def test_poses_stay_on_their_circles(seed: int, frame: float) -> None:
    rng = np.random.default_rng(seed)
    later = random_sprite(rng, vx=0.1, vy=-0.2, spin=0.7, zoom=0.3).at(frame)
    assert 0 <= later.x < 1
    assert 0 <= later.y < 1
    assert SCALE_RANGE[0] - 1e-9 <= later.scale <= SCALE_RANGE[1] + 1e-9


def test_captions_say_what_the_frame_shows() -> None:
    sprite = Sprite(shape=0, fg_hue=0, bg_hue=3, scale=0.45, angle=0.0, x=0.1, y=0.1, vx=0.8 / 15)
    assert (
        frame_caption(sprite) == "a small red heart on a green background, near the top left, pointing north"
    )
    assert "near the top right" in frame_caption(sprite, frame=15)
    assert "an orange arrow" in frame_caption(replace(sprite, shape=2, fg_hue=1)).replace("a small", "an")
    assert frame_words(replace(sprite, angle=np.pi / 2))["orientation"] == "east"
    assert len(set(ORIENTATION_WORDS)) == 8
    assert len(set(POSITION_WORDS)) == 9
    # Motion leaves no trace in the words.
    assert frame_caption(sprite) == frame_caption(replace(sprite, vx=0.0, spin=0.2, zoom=-0.1))


def test_position_words_follow_the_rendered_centre() -> None:
    """The cell read off the pixels, by centre of mass, is the one named (at least a pixel away from the grid)."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        sprite = replace(random_sprite(rng), shape=0)
        x, y = torus_centre(render_coverage(sprite, 1))[0] % 64 / 64 * 3
        if min(abs(v - round(v)) for v in (x, y)) > 0.25:
            assert frame_words(sprite)["position"] == POSITION_WORDS[3 * int(y) + int(x)]


def test_captioned_frames_are_reproducible_and_can_drop_words() -> None:
    images, captions = captioned_frames(12, size=32, seed=4)
    again, same = captioned_frames(12, size=32, seed=4)
    assert images.shape == (12, 32, 32, 3) and np.array_equal(images, again) and captions == same
    short = captioned_frames(200, size=8, seed=4, keep=0.5)[1]
    assert 0.4 < np.mean(["background" in caption for caption in short]) < 0.6
    assert any(caption == "a shape" or caption.startswith("a shape,") for caption in short)
    with pytest.raises(VidsslError, match="keep=0"):
        captioned_frames(2, keep=0)


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


def test_mp4_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = render_clip(MOTION_CLASSES["moving_right"].draw(rng, 16), seed=1)
    write_clip(tmp_path / "a.mp4", clip)
    decoded = decode(tmp_path / "a.mp4")
    assert decoded.shape == clip.shape
    assert psnr(decoded, clip) > 28
    assert psnr(decoded[1:], clip[:-1]) < psnr(decoded, clip) - 3  # frames are in order
    with pytest.raises(VidsslError, match="even"):
        write_clip(tmp_path / "b.mp4", clip[:, :63])


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


def test_wrong_sets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(VidsslError, match="did you mean 'moving_right'"):
        write_sprite_dataset(tmp_path, ["moving_rihgt"])
    with pytest.raises(VidsslError, match="different names"):
        write_sprite_dataset(tmp_path, ["growing", "growing"])
    with pytest.raises(VidsslError, match="frames 1"):
        write_sprite_dataset(tmp_path, frames=1)
    assert not any(tmp_path.iterdir())
