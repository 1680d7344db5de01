from __future__ import annotations

import gc
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.conftest import HEIGHT, WIDTH, numbered_frame, numbers_of, write_numbered
from vidssl.data.decode import open as opening
from vidssl.data.decode.decord_reader import DecordReader
from vidssl.data.decode.open import DecodeError, open_video, probe_video
from vidssl.data.decode.timeline import read_timeline
from vidssl.data.encode import write_video
from vidssl.errors import VidsslError

# What the writer is told, and whether decord delivers the frames in mode "auto".
KINDS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "h264 with B-frames": ("a.mp4", {"options": {"bf": "3", "sc_threshold": "0"}, "gop_size": 10}, True),
    "h264 without": ("a.mov", {"options": {"bf": "0"}, "gop_size": 7}, True),
    "h264 open GOP": (
        "a.mp4",
        {"options": {"x264-params": "open-gop=1:keyint=10:bframes=3:scenecut=0"}},
        False,
    ),
    "h264 one key frame": ("a.mkv", {"gop_size": 500}, True),
    "h264 all key frames": ("a.mp4", {"gop_size": 1}, True),
    "h264 10 bit": ("a.mp4", {"pix_fmt": "yuv420p10le"}, False),
    "h264 4:4:4": ("a.mp4", {"pix_fmt": "yuv444p"}, True),
    "h264 in AVI": ("a.avi", {"options": {"bf": "2"}}, False),
    "h264 raw": ("a.h264", {"gop_size": 10}, False),
    "h264 in MPEG-TS": ("a.ts", {"gop_size": 10}, False),
    "fragmented": ("a.mp4", {"container": {"movflags": "frag_keyframe+empty_moov"}, "gop_size": 10}, True),
    "variable rate": ("a.mp4", {"stamps": [i * i // 3 + i for i in range(40)], "gop_size": 10}, True),
    "late start": ("a.mkv", {"stamps": [200 + i for i in range(40)], "gop_size": 10}, True),
    "edit list": ("a.mp4", {"stamps": [i - 7 for i in range(40)], "gop_size": 20}, False),
    "h265": ("a.mp4", {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10"}}, False),
    "vp8": ("a.webm", {"codec": "libvpx", "options": {"cpu-used": "8", "deadline": "realtime"}}, True),
    "vp9": ("a.webm", {"codec": "libvpx-vp9", "options": {"cpu-used": "8", "deadline": "realtime"}}, True),
    "mpeg4": ("a.avi", {"codec": "mpeg4", "gop_size": 10, "bit_rate": 2_000_000}, True),
    "mpeg4 with B-frames": (
        "a.avi",
        {"codec": "mpeg4", "max_b_frames": 2, "gop_size": 10, "bit_rate": 2_000_000},
        False,
    ),
    "mjpeg": ("a.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}, True),
    "ffv1": ("a.mkv", {"codec": "ffv1"}, True),
    "mpeg2": (
        "a.mpg",
        {"codec": "mpeg2video", "gop_size": 10, "max_b_frames": 2, "bit_rate": 2_000_000},
        False,
    ),
    "gif": ("a.gif", {"codec": "gif", "pix_fmt": "rgb8"}, False),
}


SHOWN_FROM = {
    "edit list": 7
}  # frames with negative stamps are cut off by the edit list that mp4 needs for them


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    name, options, _ = KINDS[request.param]
    return request.param, write_numbered(tmp_path_factory.mktemp("kind") / name, **options)


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_index_i_is_frame_i(kind: tuple[str, Path], backend: str) -> None:
    name, path = kind
    first = SHOWN_FROM.get(name, 0)
    with open_video(path, backend) as video:
        count = video.info.num_frames
        assert count == 40 - first
        assert numbers_of(video.frames(range(count))) == list(range(first, 40))
        rng = np.random.default_rng(0)
        for _ in range(4):  # in any order, with repeats, again and again on one reader
            wanted = rng.integers(count, size=5)
            assert numbers_of(video.frames(wanted)) == (wanted + first).tolist()
    for i in (count - 1, count // 2, 0):  # one frame from a reader that has done nothing yet
        with open_video(path, backend) as video:
            assert numbers_of(video.frames([i])) == [i + first]


def test_times_rate_and_size(kind: tuple[str, Path]) -> None:
    name, path = kind
    with open_video(path) as video:
        given_stamps = KINDS[name][1].get("stamps", range(40))
        stamps = np.array(given_stamps, dtype=float)[SHOWN_FROM.get(name, 0) :]
        np.testing.assert_allclose(
            video.times, (stamps - stamps[0]) / 25, atol=1.1e-3
        )  # Matroska counts milliseconds
        assert video.times.dtype == np.float64
        assert video.times[0] == 0
        fps = 25 if name != "variable rate" else 39 / video.times[-1]
        assert video.info.fps == pytest.approx(fps, rel=0.02)
        assert video.info.duration == pytest.approx(video.times[-1] + 1 / video.info.fps)
        assert (video.info.height, video.info.width) == (HEIGHT, WIDTH)
        assert probe_video(path) == video.info


@pytest.fixture
def decord_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where decord was measured to be the fastest."""
    monkeypatch.setattr(opening, "decoder_order", lambda: ("decord", "pyav"))


@pytest.mark.usefixtures("decord_first")
def test_auto_takes_decord_exactly_where_it_is_right(kind: tuple[str, Path]) -> None:
    name, path = kind
    is_right = KINDS[name][2]
    with open_video(path) as video:
        assert video.backend == ("decord" if is_right else "pyav")
        automatic = video.frames(range(video.info.num_frames))
    with open_video(path, "pyav") as video:
        frames = video.frames(range(video.info.num_frames))
    np.testing.assert_allclose(automatic.astype(int), frames.astype(int), atol=2)
    if not is_right:
        with pytest.raises(DecodeError, match="decord"):
            open_video(path, "decord")


def test_a_width_that_decord_cannot_copy_is_refused_in_words(tmp_path: Path, decord_first: None) -> None:
    path = write_video(tmp_path / "a.mp4", np.zeros((3, 64, 48, 3), np.uint8), 8)
    with (
        open_video(path, "decord") as video,
        pytest.raises(DecodeError, match="that are 48 pixels wide; use"),
    ):
        video.frames([1])
    with open_video(path) as video:
        assert video.frames([1]).shape == (1, 64, 48, 3)
        assert video.backend == "pyav"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(indices=st.lists(st.integers(0, 39), max_size=12))
@pytest.mark.parametrize("backend", ["auto", "pyav", "decord"])
def test_any_order_and_repeats(numbered: Path, backend: str, indices: list[int]) -> None:
    with open_video(numbered, backend) as video:
        frames = video.frames(indices)
        assert frames.dtype == np.uint8
        assert frames.flags.c_contiguous
        assert frames.shape == (len(indices), HEIGHT, WIDTH, 3)
        assert numbers_of(frames) == indices
    np.testing.assert_allclose(frames, [numbered_frame(i) for i in indices] or frames, atol=40)


@pytest.mark.parametrize("backend", ["auto", "pyav", "decord"])
@pytest.mark.parametrize("index", [-1, 40, 10**9])
def test_indices_outside_are_errors(numbered: Path, backend: str, index: int) -> None:
    with (
        open_video(numbered, backend) as video,
        pytest.raises(IndexError, match="outside the video's 40 frames"),
    ):
        video.frames([0, index])


def test_close_may_be_repeated_and_frames_asked_between(numbered: Path) -> None:
    for backend in ("auto", "pyav", "decord"):
        video = open_video(numbered, backend)
        video.frames([3])
        video.close()
        video.close()


def test_a_file_cut_off_holds_the_frames_before_the_cut(tmp_path: Path) -> None:
    whole = write_numbered(tmp_path / "whole.mp4", gop_size=10, container={"movflags": "faststart"})
    data = whole.read_bytes()
    for share in (0.98, 0.9, 0.8, 0.7):
        path = tmp_path / f"{share}.mp4"
        path.write_bytes(data[: int(len(data) * share)])
        for backend in ("auto", "pyav"):
            with open_video(path, backend) as video:
                count = video.info.num_frames
                assert 0 < count < 40
                # With B-frames the picture before the cut is one of the future: it keeps its time.
                shown = (video.times * 25).round().astype(int).tolist()
                assert shown[: count - 3] == list(range(count - 3))
                assert numbers_of(video.frames(range(count))) == shown


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**6), flips=st.integers(1, 200))
def test_random_damage_ends_in_frames_or_a_decode_error(
    numbered: Path, tmp_path: Path, seed: int, flips: int
) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(numbered.read_bytes())
    for at, value in zip(rng.integers(len(data), size=flips), rng.integers(256, size=flips), strict=True):
        data[at] = value
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    try:
        with open_video(path) as video:
            assert len(video.times) == video.info.num_frames >= 1
            wanted = [video.info.num_frames - 1, 0]
            assert video.frames(wanted).shape == (2, video.info.height, video.info.width, 3)
    except DecodeError as error:
        assert error.path == path
        assert "\n" not in str(error)


@pytest.mark.usefixtures("decord_first")
def test_decord_failing_on_frames_falls_back(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: DecordReader, indices: Any) -> Any:
        raise DecodeError(self.path, "decord", "out of order")

    monkeypatch.setattr(DecordReader, "frames", fail)
    with open_video(numbered) as video:
        assert video.backend == "decord"
        assert numbers_of(video.frames([30, 2])) == [30, 2]
        assert video.backend == "pyav"
        assert numbers_of(video.frames([5])) == [5]


@pytest.mark.usefixtures("decord_first")
def test_decord_failing_among_frames_is_followed_where_it_stopped(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = DecordReader.each

    def fail(self: DecordReader, indices: Any) -> Any:
        yield from whole(self, indices[:2])
        raise DecodeError(self.path, "decord", "out of order")

    monkeypatch.setattr(DecordReader, "each", fail)
    with open_video(numbered) as video:
        frames = [(numbers_of(frame[None])[0], video.backend) for frame in video.each([1, 4, 9, 30])]
    assert frames == [(1, "decord"), (4, "decord"), (9, "pyav"), (30, "pyav")]


@pytest.mark.usefixtures("decord_first")
def test_a_decoder_that_was_refused_or_is_not_there_is_passed_over(
    numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeline = replace(read_timeline(numbered), refused=("decord",))
    with open_video(numbered, timeline=timeline) as video:
        assert video.backend == "pyav"
    monkeypatch.setitem(sys.modules, "decord", None)
    with open_video(numbered) as video:
        assert video.backend == "pyav"


def test_a_known_time_line_spares_the_scan(numbered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    timeline = read_timeline(numbered)
    for module in ("open", "pyav_reader", "decord_reader", "torchcodec_reader"):
        monkeypatch.setattr(f"vidssl.data.decode.{module}.read_timeline", lambda path: 1 / 0)
    for backend in ("auto", "pyav", "decord"):
        with open_video(numbered, backend, timeline) as video:
            assert numbers_of(video.frames([30, 2])) == [30, 2]
            assert np.array_equal(video.times, timeline.times)


@pytest.mark.usefixtures("decord_first")
def test_both_reasons_are_told_when_both_fail(numbered: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.mp4"
    data = bytearray(numbered.read_bytes())
    start = data.index(b"mdat") + 4
    size = int.from_bytes(data[start - 8 : start - 4], "big")
    data[start + size // 2 : start + size * 3 // 4] = bytes(size * 3 // 4 - size // 2)
    path.write_bytes(data)
    with open_video(path) as video, pytest.raises(DecodeError) as caught:
        video.frames(range(video.info.num_frames))
    assert "(decord: " in str(caught.value)
    assert "; PyAV: " in str(caught.value)
    assert (caught.value.path, caught.value.backend) == (path, "auto")


def test_errors_say_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello " * 100)
    (tmp_path / "folder.mp4").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n")
    expected = {
        "empty.mp4": "the file is empty",
        "text.mp4": "moov atom not found",
        "folder.mp4": "not a regular file",
        "pipe.mp4": "not a regular file",
        "absent.mp4": "no such file",
        "list.m3u8": "",
    }
    for name, reason in expected.items():
        for call in (open_video, probe_video):
            with pytest.raises(DecodeError) as caught:
                call(tmp_path / name)
            assert reason in caught.value.reason
            assert str(caught.value) == (
                f"{tmp_path / name}: no video stream could be decoded (PyAV: {caught.value.reason})"
            )


@pytest.mark.parametrize(
    ("side", "reason"),
    [
        (16_000, "Picture size 16000x16000 exceeds specified max pixel count 134217728"),
        (65_535, "is invalid"),
    ],
)
def test_a_few_bytes_do_not_ask_for_gigabytes(tmp_path: Path, side: int, reason: str) -> None:
    path = tmp_path / "a.gif"
    size = side.to_bytes(2, "little") * 2
    colours = bytes(3) + b"\xff" * 3
    path.write_bytes(b"GIF89a" + size + b"\x80\0\0" + colours + b",\0\0\0\0" + size + b"\0\2\2\x4c\1\0;")
    code = (
        "import resource, sys; from vidssl.data.decode.open import open_video\n"
        "import av; before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: open_video(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    said = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    *words, grown = said.stdout.split("\n")[:-1]
    assert reason in " ".join(words)
    assert int(grown) < 200_000  # kB; one frame would be a million


def test_unknown_backend(numbered: Path) -> None:
    with pytest.raises(VidsslError, match="'decrod'; did you mean 'decord'"):
        open_video(numbered, "decrod")


NAMES = [
    "with blanks.mp4", "-dash.mp4", "#1 [a]{b}.mp4", "quote'\".mp4", "per%03dcent.mp4", "foo:bar.mp4", "http:x.mp4",
    "pipe:0.mp4", "a|b.mp4", "Ünïcödé 影片.mp4", "back\\slash.mp4", "?query=1&x.mp4", "new\nline.mp4", "*.mp4",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_are_only_names(
    numbered: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(numbered.read_bytes())
    monkeypatch.chdir(tmp_path)
    for backend in ("auto", "pyav", "decord"):
        for path in (name, Path(name), tmp_path / name):
            with open_video(path, backend) as video:
                assert numbers_of(video.frames([21])) == [21]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are text elsewhere")
def test_a_name_that_is_not_text(numbered: Path, tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.mp4"))
    path.write_bytes(numbered.read_bytes())
    try:
        with open_video(path) as video:
            assert numbers_of(video.frames([21])) == [21]
    except DecodeError as error:
        str(error).encode()


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


@needs_proc
@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_nothing_stays_open(numbered: Path, tmp_path: Path, backend: str) -> None:
    (broken := tmp_path / "broken.mp4").write_bytes(numbered.read_bytes()[:700])
    with open_video(numbered, backend) as video:
        video.frames([0])
    before = open_descriptors()
    for _ in range(10):
        with open_video(numbered, backend) as video:
            video.frames([0, 39])
        with pytest.raises(DecodeError):
            open_video(broken, backend)
    assert open_descriptors() <= before


@needs_proc
@pytest.mark.parametrize("backend", ["decord", "pyav"])
def test_memory_does_not_grow_with_opens(tmp_path: Path, backend: str) -> None:
    path = write_numbered(tmp_path / "a.mp4", frames=200, gop_size=25)

    def use(times: int) -> None:
        for _ in range(times):
            with open_video(path, backend) as video:
                video.frames(range(50, 114, 4))
        gc.collect()

    use(40)  # let the allocators reach their working size
    before = resident_bytes()
    use(200)
    # A leak of one opened video would be 200 times its index and buffers; one decoded frame alone is 11.5 kB.
    assert resident_bytes() - before < 4 * 2**20


def test_opening_imports_no_decoder_before_it_is_needed() -> None:
    code = "import sys, vidssl.data.decode.open, vidssl.data.manifest.check; print({'av', 'decord', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"


@pytest.mark.parametrize("backend", ["auto", "pyav"])
def test_an_encrypted_video_is_no_noise_but_an_error(tmp_path: Path, backend: str) -> None:
    """As of streams with ClearKey or Widevine: the container is open to all, the pictures are not."""
    lock = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": "76" * 16, "encryption_kid": "a7" * 16}
    file = write_numbered(tmp_path / "a.mp4", container=lock)
    with pytest.raises(DecodeError, match=r"a\.mp4: no video stream could be decoded"):
        open_video(file, backend)
