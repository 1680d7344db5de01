"""The files that decoders meet in the wild: each must end in the right frames or in one clear error, soon."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vidssl.data.decode.open import DecodeError, open_video
from vidssl.data.decode.orientation import Orientation

SECONDS_PER_FILE = 20.0  # of CPU time: machines may be busy
# The manifest says what was hoped of each file; these hold what their description does not say.
HAS_FRAMES_AFTER_ALL = {"no_video/sine_stereo_mp2.mpg", "broken/sample_missing_stsd.mp4"}
BROKEN_AFTER_ALL = {"timing/sample_fragmented_clearkey.mp4"}  # encrypted


def listed(folder: Path) -> list[tuple[str, str]]:
    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return [(row["path"], row["expect"]) for row in csv.DictReader(file)]


def open_descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def sequential(path: Path, limit: int) -> list[NDArray[np.uint8]]:
    """The first frames, decoded one after the other from the start and turned upright, up to the first damage."""
    frames: list[NDArray[np.uint8]] = []
    with av.open(str(path)) as container:
        try:
            for frame in container.decode(container.streams.video[0]):
                if frame.is_corrupt or len(frames) == limit:
                    break
                frames.append(Orientation.of(frame).apply(frame.to_ndarray(format="rgb24")))
        except av.FFmpegError:
            pass
    return frames


def check(path: Path, limit: int, windows: int) -> str:
    """Frames at random places against a sequential decode of at most ``limit`` frames; what became of the file."""
    started = time.process_time()
    rng = np.random.default_rng(0)
    try:
        video = open_video(path)
    except DecodeError as error:
        assert "\n" not in str(error)
        return "error"
    with video:
        count = video.info.num_frames
        assert video.times.shape == (count,)
        assert video.times[0] == 0
        assert (np.diff(video.times) >= 0).all()
        assert 0 < video.info.fps < float("inf")
        expected = sequential(path, limit)
        reach = min(count, len(expected))
        outcome = "frames" if len(expected) in (count, limit) else "partial"
        for _ in range(windows):
            wanted = np.sort(rng.integers(reach, size=3))
            frames = video.frames(wanted)
            assert frames.shape == (3, video.info.height, video.info.width, 3)
            for frame, i in zip(frames, wanted, strict=True):
                difference = np.abs(frame[::2, ::2].astype(int) - expected[i][::2, ::2]).mean()
                assert difference < 0.02, (path, i, difference, video.backend)
        try:
            assert len(video.frames([count - 1])) == 1
        except DecodeError:
            outcome = "partial"
    assert time.process_time() - started < SECONDS_PER_FILE, path
    return outcome


def test_every_odd_file_ends_in_right_frames_or_an_error(odd_videos: Path) -> None:
    descriptors = open_descriptors()
    outcomes = {name: check(odd_videos / name, limit=24, windows=2) for name, _ in listed(odd_videos)}
    assert len(outcomes) == 164
    for name, expect in listed(odd_videos):
        must_fail = expect.startswith(("error or no", "no video", "no frames")) or expect == "error"
        if name in HAS_FRAMES_AFTER_ALL:
            assert outcomes[name] == "frames"
        elif name in BROKEN_AFTER_ALL or (must_fail and "webm.webm" not in name):
            assert outcomes[name] == "error", (name, expect)
        elif expect.startswith(
            ("ok", "swap", "video ok", "duration", "frame count", "fewer", "argv", "decode ok")
        ):
            assert outcomes[name] == "frames", (name, expect)
    assert open_descriptors() == descriptors


@pytest.mark.slow
def test_every_odd_file_at_length(odd_videos: Path) -> None:
    for name, _ in listed(odd_videos):
        if "long_1080p" not in name and "edit_list_positive_shift" not in name:
            check(odd_videos / name, limit=400, windows=8)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("rotation/video_0.mov", (320, 568)),
        ("rotation/video_90.mov", (568, 320)),
        ("rotation/video_180.mov", (320, 568)),
        ("rotation/video_270.mov", (568, 320)),
        ("rotation/nasa_13013_rotated.mp4", (480, 270)),
        ("generated/rotate_90.mp4", (160, 90)),
    ],
)
def test_rotated_files_have_the_size_that_is_seen(odd_videos: Path, name: str, size: tuple[int, int]) -> None:
    with open_video(odd_videos / name) as video:
        assert (video.info.height, video.info.width) == size
        assert video.frames([0]).shape[1:3] == size


def test_a_clip_is_the_same_whichever_way_it_was_stored(odd_videos: Path) -> None:
    """The rotated copies hold the stored pictures of the plain clip, so that turning back gives it again."""
    with open_video(odd_videos / "generated/base.mp4") as video:
        plain = video.frames([0, 50, 99])
    for name, turns in (("rotate_90", 1), ("rotate_180", 2), ("rotate_270", 3)):
        with open_video(odd_videos / f"generated/{name}.mp4") as video:
            turned = video.frames([0, 50, 99])
        assert any(np.array_equal(np.rot90(plain, k, (1, 2)), turned) for k in (turns, -turns)), name


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("codec/roadtrip-vp92-10bit.webm", 72),  # 80 packets, 8 of them hidden pictures
        ("timing/discard_first_keyframe.mp4", 25),  # 30 packets, 5 cut off by an edit list
        ("timing/no_duration.webm", 74),
        ("generated/raw.h264", 100),
        ("generated/anim.gif", 32),
        ("generated/truncated.avi", 48),  # the 49th is cut through
    ],
)
def test_frames_are_counted_as_shown(odd_videos: Path, name: str, count: int) -> None:
    with open_video(odd_videos / name) as video:
        assert video.info.num_frames == count
