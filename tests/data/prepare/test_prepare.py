"""Videos written anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.cache.test_videos import picture
from vidssl.data.decode.open import open_video
from vidssl.data.encode import write_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.prepare.form import Form
from vidssl.data.prepare.pieces import Split, cut_places
from vidssl.data.prepare.processes import in_processes
from vidssl.data.prepare.run import LOG, prepare
from vidssl.errors import VidsslError

SMALL = Form(short_side=32, gop=4)


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for i, name in enumerate(("run/a.mp4", "run/b.mp4", "sit/a.mp4")):
        write_video(tmp_path / "videos" / name, picture(i, frames=13, height=41, width=60), 10)
    return tmp_path / "videos"


def test_frames_times_and_labels_are_the_sources(videos: Path, tmp_path: Path) -> None:
    made = prepare(VideoIndex.read(videos), tmp_path / "new", SMALL, progress=False)
    assert made.bad == ()
    assert made.psnr > 30
    index = VideoIndex.read(made.list)
    assert [(path, label) for path, label in zip(index.paths, index.labels, strict=True)] == [
        ("run/a.mp4", "run"), ("run/b.mp4", "run"), ("sit/a.mp4", "sit")
    ]  # fmt: skip
    for clip in made.clips:
        file = tmp_path / "new" / clip.path
        with open_video(videos / clip.path) as source, open_video(file, "pyav") as now:
            assert np.abs(now.times - source.times).max() < 1e-3
            assert (now.info.height, now.info.width) == (32, 46)
            assert now.info.num_frames == clip.frames == 13
            assert clip.bytes == file.stat().st_size
            # Faststart: the table of frames stands before the frames. Key frames every four.
            content = file.read_bytes()
            assert content.index(b"moov") < content.index(b"mdat")
            assert np.searchsorted(now._timeline.pts, now._timeline.key_pts).tolist() == [0, 4, 8, 12]  # type: ignore[attr-defined]
    assert (
        prepare(VideoIndex.read(tmp_path / "new"), tmp_path / "third", progress=False).clips[0].height == 32
    )


def test_only_what_is_missing_failed_or_changed_is_done_again(videos: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    (videos / "sit/a.mp4").write_bytes(b"no video")
    made = prepare(VideoIndex.read(videos), new, SMALL, progress=False)
    assert [video.path for video in made.bad] == ["sit/a.mp4"]
    assert [clip.path for clip in made.clips] == ["run/a.mp4", "run/b.mp4"]
    assert made.done_before == 0
    assert prepare(VideoIndex.read(videos), new, SMALL, progress=False).done_before == 2
    (new / "run/a.mp4").unlink()
    write_video(videos / "sit/a.mp4", picture(5), 10)
    changed = (new / "run/b.mp4").stat().st_mtime_ns
    made = prepare(VideoIndex.read(videos), new, SMALL, progress=False)
    assert (made.done_before, len(made.clips), made.bad) == (1, 3, ())
    assert (new / "run/b.mp4").stat().st_mtime_ns == changed
    assert prepare(VideoIndex.read(videos), new, Form(short_side=16), progress=False).done_before == 0


def test_a_kill_in_the_middle_loses_nothing_that_was_done(videos: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    prepare(VideoIndex.read(videos), new, SMALL, progress=False)
    whole = (new / LOG).read_text()
    (new / LOG).write_text(whole[: len(whole) - 40])  # the last line was being written
    made = prepare(VideoIndex.read(videos), new, SMALL, progress=False)
    assert made.done_before == 2
    assert len(made.clips) == 3
    rows = (new / LOG).read_text().splitlines()
    assert json.loads(rows[-1])["source"] == json.loads(whole.splitlines()[-1])["source"]


@pytest.mark.slow
def test_kill_9_again_and_again(tmp_path: Path) -> None:
    for i in range(12):
        write_video(tmp_path / f"videos/c/{i}.mp4", picture(i, frames=60, height=200, width=300), 10)
    command = [
        sys.executable,
        "-m",
        "vidssl",
        "data",
        "prepare",
        str(tmp_path / "videos"),
        str(tmp_path / "new"),
    ]
    kills = 0
    for seconds in (4.0, 5.0, 6.0, 7.0):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        kills += process.poll() is None
        process.kill()
        process.wait()
        for file in (tmp_path / "new").rglob("[!.]*.mp4"):
            with open_video(file) as video:  # what is there is whole
                assert video.info.num_frames == 60
    subprocess.run(command, check=True, capture_output=True)
    assert kills
    assert len(VideoIndex.read(tmp_path / "new/videos.csv")) == 12


def test_one_frame_rate_for_all(videos: Path, tmp_path: Path) -> None:
    made = prepare(VideoIndex.read(videos), tmp_path / "new", Form(32, fps=4.0), progress=False)
    with open_video(tmp_path / "new/run/a.mp4") as now, open_video(videos / "run/a.mp4") as source:
        assert np.allclose(now.times, np.arange(5) / 4, atol=1e-3)  # 1.3 s
        shown = source.frames([0, 2, 5, 7, 10])  # on show at 0, .25, .5, .75 and 1 s
        assert np.abs(now.frames(range(5)).mean((1, 2)) - shown.mean((1, 2))).max() < 6
    assert [clip.frames for clip in made.clips] == [5, 5, 5]


def test_windows_hold_every_frame_once_and_are_of_one_group(videos: Path, tmp_path: Path) -> None:
    made = prepare(VideoIndex.read(videos), tmp_path / "new", SMALL, Split(windows=0.4), progress=False)
    first = made.clips[:3]
    assert [clip.path for clip in first] == [f"run/a_{t:09.3f}.mp4" for t in (0, 0.4, 0.8)]
    assert [(clip.start, clip.stop, clip.frames) for clip in first] == [
        (pytest.approx(a), pytest.approx(b), n) for a, b, n in ((0, 0.4, 4), (0.4, 0.8, 4), (0.8, 1.3, 5))
    ]
    index = VideoIndex.read(made.list)
    assert index.groups == tuple(f"{name}.mp4" for name in ("run/a", "run/b", "sit/a") for _ in range(3))
    with open_video(videos / "run/a.mp4") as source, open_video(tmp_path / "new" / first[1].path) as now:
        assert np.abs(now.frames([0]).mean((1, 2)) - source.frames([4]).mean((1, 2))).max() < 6


def test_segments_of_a_list_become_clips(videos: Path, tmp_path: Path) -> None:
    (videos / "list.csv").write_text("path,label,start,end\nrun/a.mp4,x,0.2,0.6\nrun/a.mp4,y,0.6,1.0\n")
    made = prepare(VideoIndex.read(videos / "list.csv"), tmp_path / "new", SMALL, progress=False)
    assert [(clip.start, clip.frames) for clip in made.clips] == [
        (pytest.approx(0.2), 4),
        (pytest.approx(0.6), 4),
    ]
    index = VideoIndex.read(made.list)
    assert index.labels == ("x", "y")
    assert len(set(index.paths)) == 2
    with open_video(videos / "run/a.mp4") as source, open_video(index.path(1)) as now:
        assert np.abs(now.frames([0]).mean((1, 2)) - source.frames([6]).mean((1, 2))).max() < 6


def test_shots_are_found_and_motion_is_none(tmp_path: Path) -> None:
    scenes = [picture(seed, frames=1).repeat(15, axis=0) for seed in (0, 3, 5)]
    for frame in range(15):
        scenes[1][frame] = np.roll(scenes[1][frame], frame, axis=1)  # a slow pan
    file = write_video(tmp_path / "v/x.mp4", np.concatenate(scenes), 10)
    with open_video(file) as video:
        assert Split(shots=True).pieces(video) == [(0, 15), (15, 30), (30, 45)]
        assert Split(shots=True, windows=0.75).pieces(video)[:2] == [(0, 8), (8, 15)]
    pan = np.stack([np.roll(picture(0, 1, 60, 90)[0], 6 * t, axis=1) for t in range(40)])
    file = write_video(tmp_path / "v/pan.mp4", pan, 10)
    with open_video(file) as video:
        assert Split(shots=True).pieces(video) == [(0, 40)]
    assert cut_places(np.array([0, 1, 1, 40, 1, 1])) == [3]
    assert cut_places(np.array([0, 30, 32, 40, 33, 31])) == []  # everything moves
    assert cut_places(np.full(20, 5.0)) == []


def test_names_never_meet_and_stay_below_the_folder(tmp_path: Path) -> None:
    for i, name in enumerate(("in/a.mp4", "in/A.mkv.mp4", "in/a.mkv", "out.mp4")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        made = write_video(tmp_path / "x.mp4", picture(i, 5), 10)
        made.rename(tmp_path / name)
    (tmp_path / "in/list.csv").write_text("a.mp4\na.mkv\nA.mkv.mp4\n../out.mp4\n")
    made = prepare(VideoIndex.read(tmp_path / "in/list.csv"), tmp_path / "new", SMALL, progress=False)
    paths = [clip.path for clip in made.clips]
    assert len({path.lower() for path in paths}) == 4
    assert all((tmp_path / "new" / path).resolve().is_relative_to(tmp_path / "new") for path in paths)


def test_clips_are_cheap_to_decode_unless_they_are_to_be_small(videos: Path, tmp_path: Path) -> None:
    """By x264's own words in the stream: no arithmetic coding, no deblocking."""
    said = {}
    for tune in ("fastdecode", "none"):
        made = prepare(VideoIndex.read(videos), tmp_path / tune, Form(32, 4, tune=tune), progress=False)
        said[tune] = (tmp_path / tune / made.clips[0].path).read_bytes()
        assert made.psnr > 30
    assert b"cabac=0" in said["fastdecode"] and b"deblock=0" in said["fastdecode"]
    assert b"cabac=1" in said["none"] and b"deblock=1" in said["none"]
    with pytest.raises(VidsslError, match="did you mean 'fastdecode'"):
        Form(tune="fastdecod")


def test_a_name_with_a_line_break_costs_nothing(tmp_path: Path) -> None:
    """A list of the clips could not hold it."""
    for name in ("run/a\nb.mp4", "run/a b.mp4", "run/c.mp4"):
        write_video(tmp_path / "videos" / name, picture(1, frames=13), 10)
    made = prepare(
        VideoIndex.read(tmp_path / "videos"), tmp_path / "new", SMALL, Split(windows=0.6), progress=False
    )
    assert (len(made.clips), made.bad) == (6, ())
    index = VideoIndex.read(made.list)
    assert sorted({path.rpartition("_")[0] for path in index.paths}) == ["run/a b", "run/a b.mp4", "run/c"]
    assert all(index.path(i).is_file() for i in range(6))
    (tmp_path / "videos/run").rename(tmp_path / "videos/r\nun")
    with pytest.raises(VidsslError, match="a label or group with a line break"):
        prepare(VideoIndex.read(tmp_path / "videos"), tmp_path / "third", SMALL, progress=False)
    assert not (tmp_path / "third").exists()


def test_what_was_written_must_be_what_was_read(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), dtype=np.uint8)
    write_video(tmp_path / "v/a.mp4", noise, 10)
    made = prepare(VideoIndex.read(tmp_path / "v"), tmp_path / "new", Form(crf=51), progress=False)
    assert "differ from the source" in made.bad[0].reason
    assert not list((tmp_path / "new").rglob("*.mp4"))


def _work(job: str, alive: Callable[[], None]) -> str:
    if job == "crash":
        os._exit(3)
    if job == "hang":
        time.sleep(60)
    if job == "wrong":
        raise VidsslError("no disk")
    return job.upper()


def test_processes_that_crash_or_hang_lose_only_themselves() -> None:
    answers = dict(in_processes(_work, ["a", "crash", "hang", "b"], 2, patience=1.5))
    assert (answers[0], answers[3]) == ("A", "B")
    assert "exit code 3" in answers[1]
    assert "took longer than 1.5 s" in answers[2]
    with pytest.raises(VidsslError, match="no disk"):
        dict(in_processes(_work, ["wrong"], 1, patience=9))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Form(short_side=8), "short_side=8"),
        (lambda: Form(crf=52), "crf=52"),
        (lambda: Form(gop=0), "gop=0"),
        (lambda: Form(fps=0.0), "fps=0"),
        (lambda: Form(preset="veryfst"), "did you mean 'veryfast'"),
        (lambda: Split(windows=0.0), "windows=0"),
    ],
)
def test_impossible_forms_are_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(VidsslError, match=text):
        make()


def test_the_sources_own_folder_is_refused(videos: Path) -> None:
    with pytest.raises(VidsslError, match="where the videos come from"):
        prepare(VideoIndex.read(videos), videos, progress=False)
    assert not (videos / LOG).exists()
