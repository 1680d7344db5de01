"""Factor clips in memory: uniform labels, looks by number, and nothing of motion in frame 0."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from scipy.stats import chi2

from vidssl.errors import VidsslError
from vidssl.synthetic.factors.scenes import SCENES, factor_clips, sample_table


@pytest.mark.parametrize("scene", SCENES)
def test_values_are_uniform_and_more_clips_keep_the_first(scene: str) -> None:
    n = 4000
    table = sample_table(scene, n, seed=1)
    for name, column in zip(table.names, table.values.T, strict=True):
        count = table.sizes[name]
        observed = np.bincount(column, minlength=count)
        assert len(observed) == count
        assert ((observed - n / count) ** 2 / (n / count)).sum() < chi2.ppf(1 - 1e-4, count - 1), name
    assert np.array_equal(sample_table(scene, 7, seed=1).values, table.values[:7])
    assert not np.array_equal(sample_table(scene, 7, seed=2).values, table.values[:7])


@pytest.mark.parametrize("scene", SCENES)
def test_a_clip_is_a_pure_function_of_values_seed_and_number(scene: str) -> None:
    values = sample_table(scene, 3).values
    clips = factor_clips(scene, values, frames=3, size=32, seed=5)
    assert clips.shape == (3, 3, 32, 32, 3)
    assert clips.dtype == np.uint8
    assert np.array_equal(clips[1:2], factor_clips(scene, values[1:2], 3, 32, 5, numbers=[1]))
    assert not np.array_equal(clips[1:2], factor_clips(scene, values[1:2], 3, 32, 5, numbers=[2]))
    assert not np.array_equal(clips[1:2], factor_clips(scene, values[1:2], 3, 32, 6, numbers=[1]))


@pytest.mark.parametrize("scene", SCENES)
def test_frame_0_depends_on_every_static_factor_and_on_no_motion_factor(scene: str) -> None:
    """Pixels of frame 0 are identical whatever the motion, so its distribution given the motion is; the rest differs."""
    found = SCENES[scene]
    [row] = sample_table(scene, 1, seed=4).values
    for column, (name, count) in enumerate(found.factors.items()):
        changed = np.repeat(row[None], count, axis=0)
        changed[:, column] = np.arange(count)
        clips = factor_clips(scene, changed, frames=3, size=64, numbers=[0] * count)
        for a, b in combinations(range(count), 2):
            same = np.array_equal(clips[a, 0], clips[b, 0])
            assert same == (name in found.motion), (name, a, b)
            assert not np.array_equal(clips[a], clips[b]), (name, a, b)


@pytest.mark.parametrize(
    ("scene", "shape", "value", "said"),
    [
        ("sprite", (1, 11), 0, "did you mean 'sprites'"),
        ("sprites", (1, 10), 0, r"values \(1, 10\)"),
        ("sprites", (1, 11), 8, "out of range"),
        ("sprites", (1, 11), -1, "out of range"),
    ],
)
def test_what_does_not_fit_a_scene_is_named(
    scene: str, shape: tuple[int, int], value: int, said: str
) -> None:
    with pytest.raises(VidsslError, match=said):
        factor_clips(scene, np.full(shape, value))


def test_counts_below_one_are_refused() -> None:
    with pytest.raises(VidsslError, match="clips=0"):
        sample_table("sprites", 0)
    with pytest.raises(VidsslError, match="frames=0"):
        factor_clips("sprites", np.zeros((1, 11), dtype=np.int64), frames=0)
