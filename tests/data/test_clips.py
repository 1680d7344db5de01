from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from vidssl.data.clips import (
    ClipIndices,
    ClipSpec,
    Window,
    drop_frames,
    random_window,
    uniform_clips,
    view_indices,
    whole,
)
from vidssl.data.rng import Purpose, stream
from vidssl.errors import VidsslError

gaps = st.lists(st.floats(1e-3, 2.0), min_size=0, max_size=60)
specs = st.one_of(
    st.builds(lambda t, s: ClipSpec(t, stride=s), st.integers(1, 20), st.integers(1, 9)),
    st.builds(
        lambda t, s: ClipSpec(t, seconds=s),
        st.integers(1, 20),
        st.one_of(st.floats(1e-3, 30), st.just(math.inf)),
    ),
)


def constant_rate(num_frames: int, fps: float = 25.0) -> NDArray[np.float64]:
    return np.arange(num_frames) / fps


@given(gaps, specs, st.integers(0, 2**32), st.integers(1, 4), st.tuples(st.floats(0, 1), st.floats(0, 1)))
@settings(max_examples=100, deadline=None)
def test_indices_exist_ascend_and_carry_their_times(
    gaps: list[float], spec: ClipSpec, seed: int, num_clips: int, cut: tuple[float, float]
) -> None:
    times = np.concatenate(([0.0], np.cumsum(gaps)))
    start, stop = whole(times)
    low, high = sorted(start + (stop - start) * share for share in cut)
    for clip in (
        view_indices(times, spec, np.random.default_rng(seed)),
        view_indices(times, spec, np.random.default_rng(seed), Window(low, high)),
        uniform_clips(times, spec, num_clips),
    ):
        assert clip.indices.dtype == np.int64
        assert clip.indices.shape[-1] == spec.frames
        assert clip.indices.min() >= 0
        assert clip.indices.max() < len(times)
        assert (np.diff(clip.indices) >= 0).all()
        np.testing.assert_array_equal(clip.times, times[clip.indices])


@given(st.integers(1, 200), st.floats(5, 120))
@settings(max_examples=25, deadline=None)
def test_as_many_frames_as_the_video_has_is_every_frame_once(num_frames: int, fps: float) -> None:
    clip = uniform_clips(constant_rate(num_frames, fps), ClipSpec(num_frames, seconds=math.inf), 1)
    np.testing.assert_array_equal(clip.indices[0], np.arange(num_frames))


def test_uniform_takes_the_middle_of_equal_segments() -> None:
    clip = uniform_clips(constant_rate(80), ClipSpec(8, seconds=math.inf), 1)
    # Segments of ten frames; the middle of 0..9 is 4.5 and ties go to the earlier frame.
    np.testing.assert_array_equal(clip.indices[0], np.arange(8) * 10 + 4)


def test_variable_frame_rate_is_sampled_by_time_not_by_number() -> None:
    # One second at 20 frames/s, a slow second at 4 frames/s, one more at 20.
    times = np.concatenate((np.arange(20) / 20, 1 + np.arange(4) / 4, 2 + np.arange(20) / 20))
    clip = uniform_clips(times, ClipSpec(6, seconds=math.inf), 1)
    targets = (np.arange(6) + 0.5) * 0.5 - 0.025
    nearest = [int(np.abs(times - target).argmin()) for target in targets]
    np.testing.assert_array_equal(clip.indices[0], nearest)
    assert (
        (clip.indices[0] >= 20) & (clip.indices[0] < 24)
    ).sum() == 2  # by number it would be one of six frames


def test_a_gap_in_the_timestamps_shows_the_nearest_frame() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.3, 2.3, 2.4, 2.5, 2.6])
    clip = uniform_clips(times, ClipSpec(9, seconds=2.7), 1)
    np.testing.assert_array_equal(clip.indices[0], [1, 3, 3, 3, 3, 4, 4, 4, 6])


@pytest.mark.parametrize(
    ("num_frames", "frames", "expected"),
    [(3, 6, [0, 0, 1, 1, 2, 2]), (1, 4, [0, 0, 0, 0]), (4, 2, [0, 2])],
)
def test_short_videos_are_spread_over_what_exists(num_frames: int, frames: int, expected: list[int]) -> None:
    times = constant_rate(num_frames)
    spec = ClipSpec(frames, seconds=100.0)
    np.testing.assert_array_equal(uniform_clips(times, spec, 1).indices[0], expected)
    np.testing.assert_array_equal(view_indices(times, spec, np.random.default_rng(0)).indices, expected)


def test_a_stride_longer_than_the_video_holds_the_last_frame() -> None:
    spec = ClipSpec(5, stride=3)
    expected = [0, 3, 6, 7, 7]
    np.testing.assert_array_equal(uniform_clips(constant_rate(8), spec, 1).indices[0], expected)
    np.testing.assert_array_equal(
        view_indices(constant_rate(8), spec, np.random.default_rng(0)).indices, expected
    )


def test_strided_views_keep_the_stride_and_reach_every_place() -> None:
    starts = set()
    for seed in range(300):
        clip = view_indices(constant_rate(30), ClipSpec(8, stride=3), np.random.default_rng(seed))
        np.testing.assert_array_equal(np.diff(clip.indices), 3)
        starts.add(int(clip.indices[0]))
    assert starts == set(range(30 - 21))  # 22 frames from first to last


def test_one_strided_clip_is_centred() -> None:
    clip = uniform_clips(constant_rate(100), ClipSpec(8, stride=2), 1)
    first, last = clip.indices[0][[0, -1]]
    assert abs(first - (99 - last)) <= 1


@pytest.mark.parametrize("spec", [ClipSpec(8, seconds=1.0), ClipSpec(8, stride=3)])
def test_clips_are_centred_in_equal_segments(spec: ClipSpec) -> None:
    times = constant_rate(1000)  # 40 s, four segments of 10 s
    clips = uniform_clips(times, spec, 4)
    np.testing.assert_allclose(clips.times.mean(axis=1), [5, 15, 25, 35], atol=1 / 25)


def test_clips_longer_than_a_segment_are_pushed_inside() -> None:
    clips = uniform_clips(constant_rate(100), ClipSpec(30, stride=3), 3)
    assert clips.indices[0, 0] == 0
    assert clips.indices[-1, -1] == 99
    assert (np.diff(clips.indices, axis=1) == 3).all()


def test_views_stay_in_their_window() -> None:
    times = constant_rate(250)
    window = Window(2.0, 5.0)
    for seed in range(50):
        for spec in (ClipSpec(6, seconds=1.0), ClipSpec(6, seconds=9.0), ClipSpec(6, stride=4)):
            clip = view_indices(times, spec, np.random.default_rng(seed), window)
            assert clip.times.min() >= 2.0
            assert clip.times.max() < 5.0


def test_windows_and_views_are_uniform_over_the_places_where_they_fit() -> None:
    times = constant_rate(250)  # 10 s
    starts = [random_window(times, 4.0, stream(0, Purpose.WINDOW, 0, i)).start for i in range(2000)]
    assert stats.kstest(starts, stats.uniform(0, 6).cdf).pvalue > 1e-3
    assert stats.kstest(starts, stats.uniform(0, 10).cdf).pvalue < 1e-9  # and the test can tell
    first = [
        view_indices(times, ClipSpec(4, seconds=2.0), stream(0, Purpose.TIME, 0, i)).times[0]
        for i in range(2000)
    ]
    assert stats.kstest(np.array(first) - 0.23, stats.uniform(0, 8).cdf).pvalue > 1e-4


def test_a_window_longer_than_the_video_starts_at_its_first_frame() -> None:
    times = constant_rate(50) + 3.0
    assert random_window(times, 60.0, np.random.default_rng(0)) == (3.0, whole(times).stop)


@pytest.mark.parametrize(
    "arguments",
    [
        {"frames": 8},
        {"frames": 8, "stride": 2, "seconds": 1.0},
        {"frames": 0, "stride": 1},
        {"frames": 8, "stride": 0},
        {"frames": 8, "seconds": 0.0},
        {"frames": 8, "seconds": math.nan},
    ],
)
def test_impossible_clips_are_refused(arguments: dict[str, float]) -> None:
    with pytest.raises(VidsslError):
        ClipSpec(**arguments)  # type: ignore[arg-type]


def test_no_frames_and_no_clips_are_refused() -> None:
    with pytest.raises(VidsslError, match="at least one frame"):
        whole(np.zeros(0))
    with pytest.raises(VidsslError, match="num_clips=0"):
        uniform_clips(constant_rate(9), ClipSpec(2, stride=1), 0)


def test_streams_are_disjoint_and_repeatable() -> None:
    words = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0), (2**63, 5, 2**64 - 1)]
    keys = [(seed, purpose, w) for seed in (0, 1, 2**64 - 1) for purpose in Purpose for w in words]
    draws = [tuple(stream(seed, purpose, *w).integers(0, 2**63, 8)) for seed, purpose, w in keys]
    assert len(set(draws)) == len(draws)
    assert draws == [tuple(stream(seed, purpose, *w).integers(0, 2**63, 8)) for seed, purpose, w in keys]
    with pytest.raises(VidsslError, match="seed -1"):
        stream(-1, Purpose.ORDER)


def test_dropped_frames_are_the_ones_before_them() -> None:
    clip = ClipIndices(np.arange(0, 80, 2), np.arange(40) / 10)
    rng = np.random.default_rng(0)
    assert [np.array_equal(a, b) for a, b in zip(drop_frames(clip, 0.0, rng), clip, strict=True)] == [
        True,
        True,
    ]
    assert drop_frames(clip, 1.0, rng).indices.tolist() == [0] * 40
    shares = []
    for _ in range(200):
        shown = drop_frames(clip, 0.25, rng)
        assert shown.indices[0] == 0
        assert np.array_equal(shown.times, shown.indices / 20)
        held = shown.indices != clip.indices
        assert np.array_equal(shown.indices[1:][held[1:]], shown.indices[:-1][held[1:]])
        shares.append(held[1:].mean())
    assert abs(np.mean(shares) - 0.25) < 0.02
