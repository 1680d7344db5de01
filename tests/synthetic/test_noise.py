from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vidssl.data.decode.open import open_video
from vidssl.errors import VidsslError
from vidssl.synthetic.noise import (
    ASIDE,
    FAST,
    NOISE_CLASSES,
    noise_clip,
    noise_texture,
    write_noise_dataset,
)

SIZE = 16


def clips(name: str, count: int, seed: int, frames: int = 6, **others) -> np.ndarray:
    """(count, frames, SIZE, SIZE) grey levels."""
    rng = np.random.default_rng(seed)
    return np.stack([noise_clip(name, rng, frames, SIZE, **others)[..., 0] for _ in range(count)]).astype(
        float
    )


def test_every_frame_is_the_first_one_shifted_by_the_velocity_of_the_class() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for name, (x, y) in NOISE_CLASSES.items():
        for _ in range(30):
            clip = noise_clip(name, rng, 4, SIZE)
            assert clip.shape == (4, SIZE, SIZE, 3) and (clip == clip[..., :1]).all()
            steps = [
                (dx, dy)
                for dx in range(-4, 5)
                for dy in range(-4, 5)
                if all((np.roll(clip[t], (dy, dx), axis=(0, 1)) == clip[t + 1]).all() for t in range(3))
            ]
            [(dx, dy)] = steps  # white enough that no other shift explains it
            along, across = (dx * x + dy * y), (dx * abs(y) + dy * abs(x))
            assert along in FAST and across in ASIDE
            seen.add((dx, dy))
    assert len(seen) == len(NOISE_CLASSES) * len(FAST) * len(ASIDE)


def test_a_texture_has_the_same_law_everywhere_on_the_torus() -> None:
    """Mean, variance and correlation of neighbours are those of the filter at every place, over the borders too."""
    rng = np.random.default_rng(1)
    fields = np.stack([noise_texture(rng, SIZE) for _ in range(4000)]).astype(float)
    assert np.abs(fields.mean(0) - 127.5).max() < 5 * fields.std() / np.sqrt(4000)
    variance = fields.var(0)
    assert variance.max() / variance.min() < 1.35
    for axis in (1, 2):
        product = ((fields - 127.5) * (np.roll(fields, 1, axis=axis) - 127.5)).mean(0) / fields.var()
        assert np.abs(product - product.mean()).max() < 5 / np.sqrt(4000) and product.mean() > 0.5


def statistics_of_frames(frames: np.ndarray) -> np.ndarray:
    """(n, k) numbers by which directions of blur, wrapped borders and contrasts would show in frames (n, S, S)."""
    x = frames - frames.mean((1, 2), keepdims=True)
    differences = [
        np.abs(x - np.roll(x, shift, axis=(1, 2))).mean((1, 2))
        for shift in ((0, 1), (1, 0), (2, 0), (0, 2), (1, 1))
    ]
    border = np.abs(x[:, :, 0] - x[:, :, -1]).mean(1), np.abs(x[:, 0] - x[:, -1]).mean(1)
    return np.stack([*differences, *border, x.std((1, 2)), frames.mean((1, 2)), frames[:, 0, 0]], axis=1)


def worst_p(first: np.ndarray, second: np.ndarray) -> float:
    """The smallest p of two-sample tests of each statistic, times their number."""
    found = [stats.ks_2samp(a, b).pvalue for a, b in zip(first.T, second.T, strict=True)]
    return min(found) * len(found)


def test_single_frames_have_one_law_and_means_of_frames_tell_the_axis_but_never_the_sign() -> None:
    rows = {name: clips(name, 400, seed) for seed, name in enumerate(NOISE_CLASSES)}
    right, left, down = (rows[f"drifting_{name}"] for name in ("right", "left", "down"))
    for frame in (0, 5):
        for other in (left, down):
            assert (
                worst_p(statistics_of_frames(right[:, frame]), statistics_of_frames(other[:, frame])) > 0.01
            )
    means = [statistics_of_frames(x.mean(1)) for x in (right, left, down)]
    assert worst_p(means[0], means[1]) > 0.01  # v and -v: the same frames in reverse
    assert worst_p(means[0], means[2]) < 1e-20  # the leak of second order that the control measures


def test_a_lossy_code_would_leak_what_the_lossless_one_does_not(tmp_path) -> None:
    write_noise_dataset(tmp_path, 0, 2, frames=6, size=32, seed=3)
    paths = sorted((tmp_path / "val").rglob("*.mp4"))
    assert len(paths) == 8
    for number, name in enumerate(NOISE_CLASSES):
        clip = noise_clip(name, np.random.default_rng((3, 1, number, 0)), 6, 32)
        with open_video(tmp_path / "val" / name / f"{name}_0000.mp4") as video:
            shown = np.asarray(video.frames(range(6))).astype(int)
        assert np.abs(shown - clip).max() <= 2
        # Whatever became of a grey level became of it in every frame and place: nothing but rounding, which knows no motion.
        for level in np.unique(clip):
            assert len(np.unique(shown[clip == level])) == 1


def test_shots_are_other_textures_of_the_same_motion() -> None:
    clip = noise_clip("drifting_up", np.random.default_rng(0), 8, SIZE, shots=2)[..., 0]
    shift = [
        s
        for s in ((dy, dx) for dy in (-3, -2) for dx in ASIDE)
        if (np.roll(clip[0], s, (0, 1)) == clip[1]).all()
    ]
    assert len(shift) == 1 and (np.roll(clip[4], shift[0], (0, 1)) == clip[5]).all()
    assert not (np.roll(clip[3], shift[0], (0, 1)) == clip[4]).all()


@pytest.mark.parametrize(
    "wrong", [{"size": 9}, {"frames": 1}, {"clips_per_class_val": -1}, {"shots": 5}, {"shots": 32}]
)
def test_what_cannot_be_rendered_is_said_before_anything_is_written(tmp_path, wrong) -> None:
    with pytest.raises(VidsslError, match="noise set"):
        write_noise_dataset(tmp_path / "set", **wrong)
    assert not (tmp_path / "set").exists()
