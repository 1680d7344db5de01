"""Videos that are decoded once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vidssl.data.cache.videos import cached
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import DecodeError, VideoReader
from vidssl.data.decode.timeline import Timeline
from vidssl.data.encode import write_video
from vidssl.data.loader import build_loader
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.crop import resize_short_side
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError

FORMS = ("memory", "raw", "jpeg")


def picture(seed: int, frames: int = 9, height: int = 40, width: int = 60) -> np.ndarray[Any, Any]:
    """Frames that a JPEG changes, but not beyond recognition."""
    moments, rows, columns = np.ogrid[:frames, :height, :width]
    waves = [np.sin((rows * (c + 1) + columns + 9 * moments + 20 * seed) / 25) for c in range(3)]
    return (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)


class Opener:
    """Counts what it opens."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def __call__(self, path: Path, *, timeline: Timeline | None = None) -> VideoReader:
        self.opened.append(path.name)
        return open_video(path, timeline=timeline)


def shelf(tmp_path: Path, form: str, **options: Any) -> dict[str, Any]:
    return {"form": form, "folder": None if form == "memory" else tmp_path / "kept", **options}


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_video(tmp_path / "a.mp4", picture(0), 10)


@pytest.mark.parametrize("form", FORMS)
def test_a_video_is_decoded_once_and_is_the_same_video(form: str, video: Path, tmp_path: Path) -> None:
    opener = Opener()
    kept = cached(opener, 32, **shelf(tmp_path, form))
    with open_video(video) as plain:
        every = resize_short_side(torch.from_numpy(plain.frames(range(9))), 32).numpy()
        for indices in ([8, 0, 0], [2], []):
            with kept(video) as one:
                frames = one.frames(indices)
                assert (
                    frames.shape
                    == (len(indices), 32, 48, 3)
                    == (len(indices), one.info.height, one.info.width, 3)
                )
                error = np.abs(frames.astype(int) - every[indices])
                assert (error.max(initial=0) == 0) == (form != "jpeg" or not indices)
                assert error.mean() < 4 if indices else True
                assert np.array_equal(one.times, plain.times)
                assert (one.info.num_frames, one.info.fps, one.backend) == (9, plain.info.fps, plain.backend)
                with pytest.raises(IndexError):
                    one.frames([9])
    assert opener.opened == ["a.mp4"]


@pytest.mark.parametrize("form", FORMS)
def test_without_room_the_pixels_are_the_same(form: str, video: Path, tmp_path: Path) -> None:
    opener = Opener()
    kept = cached(open_video, 32, **shelf(tmp_path, form))
    full = cached(opener, 32, **shelf(tmp_path, form, gigabytes=1e-6) | {"folder": tmp_path / "small"})
    for indices in ([8, 0, 0], [3]):
        with kept(video) as one, full(video) as other:
            assert np.array_equal(one.frames(indices), other.frames(indices))
            assert one.info == other.info
            assert np.array_equal(one.times, other.times)
    assert len(opener.opened) == 3  # it is tried once to keep it
    assert not list((tmp_path / "small").glob("*/*")) if form != "memory" else True


def test_files_are_known_by_their_content(video: Path, tmp_path: Path) -> None:
    opener = Opener()
    options = shelf(tmp_path, "raw")
    copy = tmp_path / "copy.mp4"
    copy.write_bytes(video.read_bytes())
    for path in (video, copy):
        cached(opener, None, **options)(path).close()
    assert opener.opened == ["a.mp4"]
    for other in (
        cached(opener, 32, **options),
        cached(opener, None, **options, fps=5),
        cached(opener, None, **shelf(tmp_path, "jpeg")),
    ):
        other(copy).close()
    assert opener.opened == ["a.mp4"] + 3 * ["copy.mp4"]
    write_video(video, picture(1), 10)
    with cached(opener, None, **options)(video) as now, open_video(video) as plain:
        assert np.array_equal(now.frames([0]), plain.frames([0]))


def test_fewer_frames_a_second(video: Path, tmp_path: Path) -> None:
    for folder, gigabytes in (("kept", 1.0), ("small", 1e-6)):
        options = {"form": "raw", "folder": tmp_path / folder, "gigabytes": gigabytes}
        with cached(open_video, None, **options, fps=3.0)(video) as few, open_video(video) as plain:
            assert few.times.tolist() == plain.times[::3].tolist()
            assert (few.info.num_frames, few.info.fps) == (3, pytest.approx(10 / 3))
            assert np.array_equal(few.frames([0, 1, 2]), plain.frames([0, 3, 6]))


@pytest.mark.parametrize("damage", ["frame", "table", "end", "cut", "empty", "magic"])
@pytest.mark.parametrize("form", ["raw", "jpeg"])
def test_what_is_damaged_is_noticed_and_written_anew(
    damage: str, form: str, video: Path, tmp_path: Path
) -> None:
    opener = Opener()
    options = shelf(tmp_path, form)
    with cached(opener, 32, **options)(video) as one:
        before = one.frames(range(9))
    (file,) = (tmp_path / "kept").glob("*/*.frames")
    whole = bytearray(file.read_bytes())
    place = {"frame": 100, "table": len(whole) - 300, "end": len(whole) - 1, "magic": len(whole) - 24}.get(
        damage, 0
    )
    broken = whole[: len(whole) // 2] if damage == "cut" else bytearray() if damage == "empty" else whole[:]
    if damage not in ("cut", "empty"):
        broken[place] ^= 1
    file.write_bytes(broken)
    for _ in range(2):
        with cached(opener, 32, **options)(video) as one:
            assert np.array_equal(one.frames(range(9)), before)
    assert opener.opened == ["a.mp4", "a.mp4"]
    assert file.read_bytes() == whole
    assert (tmp_path / "kept/total").read_text() == str(len(whole))


def test_a_broken_video_is_asked_again_and_a_damaged_one_shows_what_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "b.mp4"
    file.write_bytes(b"no video")
    kept = cached(open_video, None, **shelf(tmp_path, "raw"))
    with pytest.raises(DecodeError, match=r"b\.mp4"):
        kept(file)
    with pytest.raises(DecodeError, match="no such file"):
        kept(tmp_path / "c.mp4")
    write_video(file, picture(0), 8)

    class Damaged:
        def __init__(self) -> None:
            self.video = open_video(file)
            self.path, self.backend = self.video.path, self.video.backend
            self.info, self.times = self.video.info, self.video.times

        def frames(self, indices: Any) -> Any:
            if 5 in list(indices):
                raise DecodeError(file, "pyav", "frame 5 is damaged")
            return self.video.frames(indices)

        def each(self, indices: Any) -> Any:
            yield from self.frames(indices)

    @contextmanager
    def opener(path: Path, *, timeline: Timeline | None = None) -> Iterator[Any]:
        yield Damaged()

    kept = cached(opener, None, **shelf(tmp_path, "raw"))
    with kept(file) as one, open_video(file) as plain:
        assert np.array_equal(one.frames([4]), plain.frames([4]))
        with pytest.raises(DecodeError, match="frame 5"):
            one.frames([5])


def test_the_folder_never_grows_beyond_its_limit(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{i}.mp4", picture(i), 10) for i in range(4)]
    folder, size = tmp_path / "kept", 9 * 40 * 60 * 3
    limit = 2.5 * size / 1e9
    opener = Opener()
    kept = cached(opener, None, "raw", folder, limit)
    for _ in range(2):
        for video in videos:
            kept(video).close()
    files = list(folder.glob("*/*.frames"))
    assert len(files) == 2
    assert sum(file.stat().st_size for file in files) == int((folder / "total").read_text()) <= 2.5 * size
    assert opener.opened[-2:] == ["2.mp4", "3.mp4"]  # the others are read
    cached(opener, None, "raw", folder, 2 * limit)(videos[2]).close()
    assert len(list(folder.glob("*/*.frames"))) == 3
    cached(opener, None, "raw", folder, limit)(videos[3]).close()  # 0 is the one not used for longest
    with_room = cached(opener, None, "raw", folder, limit)
    opener.opened.clear()
    with_room(videos[1]).close()
    with_room(videos[2]).close()
    assert opener.opened == []


def _open_all(videos: list[Path], folder: Path, seed: int) -> None:
    kept = cached(open_video, None, "jpeg", folder)
    for i in np.random.default_rng(seed).permutation(len(videos)):
        with kept(videos[i]) as video:
            assert video.frames([1]).std() > 10


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs processes that fork")
def test_processes_share_a_folder(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{i}.mp4", picture(i), 10) for i in range(6)]
    folder = tmp_path / "kept"
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_open_all, args=(videos, folder, seed)) for seed in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert len(list(folder.glob("*/*.frames"))) == 6
    assert not list(folder.glob("*/.*"))


def test_impossible_caches_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for options, text in (
        ({"form": "jpg", "folder": tmp_path}, "did you mean 'jpeg'"),
        ({"form": "raw"}, "needs a folder"),
        ({"form": "raw", "folder": tmp_path, "gigabytes": 0}, "gigabytes=0"),
        ({"form": "raw", "folder": tmp_path / "file" / "x"}, "is no folder one may write to"),
    ):
        with pytest.raises(VidsslError, match=text):
            cached(open_video, None, **options)
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("workers", [0, 2])
def test_training_reads_the_same_clips_and_the_second_run_decodes_nothing(
    workers: int, tmp_path: Path
) -> None:
    for i in range(4):
        write_video(tmp_path / f"videos/c/{i}.mp4", picture(i, 30), 10)
    index = VideoIndex.read(tmp_path / "videos")
    views = [ViewSpec("global", 2, 4, seconds=1.0, size=16)]

    def batches(opener: Any) -> list[torch.Tensor]:
        data = ClipDataset(index, views, window_seconds=1.5, decode_size=32, opener=opener)
        loader = build_loader(data, GlobalBatchSampler(4, 2, total_steps=4), num_workers=workers)
        return [batch.frames for batch in loader]

    def refuse(path: Path) -> VideoReader:
        raise AssertionError("decodes")

    plain = batches(open_video)
    for opener in (open_video, refuse):
        kept = batches(cached(opener, 32, "raw", tmp_path / "kept"))
        assert all(torch.equal(a, b) for a, b in zip(plain, kept, strict=True))
