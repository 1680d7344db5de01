from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.data.conftest import numbers_of, write_numbered
from tests.data.fake_videos import MEAN, STD, VIEWS, FakeReader, FakeVideos, dataset, same
from vidssl.data.batch import collate_clips
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import ClipDataset, EvalClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.decode.pyav_reader import PyAVReader
from vidssl.data.decode.reader import DecodeError
from vidssl.data.encode import write_video
from vidssl.data.loader import build_eval_loader, build_loader
from vidssl.data.manifest.indexing import write_index
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError

SHARED = Path(__file__).parents[2] / "../shared/data"


def test_one_open_one_ascending_decode_and_no_frame_twice() -> None:
    videos = FakeVideos(5)
    sample = dataset(videos)[(0, 3)]
    assert videos.opened == [3]
    assert len(videos.calls) == 1
    assert (np.diff(videos.calls[0]) > 0).all()
    assert len(sample.frames) == len(videos.calls[0])
    assert sample.frames.is_contiguous()
    assert sample.frames.dtype == torch.uint8
    assert sample.frames.shape[1:] == (36, 38, 3)  # 49 x 53 with the short side at 36
    for index, times in zip(sample.index, sample.times, strict=True):
        chosen = torch.from_numpy(videos.calls[0])[index]
        torch.testing.assert_close(times, chosen.float() / 25)
    span = max(t.max() for t in sample.times) - min(t.min() for t in sample.times)
    assert span <= 1.0
    assert all(t.max() - t.min() <= 0.5 for t in sample.times[2:])


def test_without_resizing_the_samples_hold_the_decoded_pixels() -> None:
    videos = FakeVideos(5)
    sample = dataset(videos, decode_size=None)[(2, 1)]
    assert np.array_equal(sample.frames.numpy(), FakeReader(1, []).frames(videos.calls[0]))


def test_the_window_is_capped_in_frames() -> None:
    videos = FakeVideos(30)
    data = dataset(videos, window_seconds=None, max_window_frames=20)
    spans = [np.ptp(videos.calls[-1]) for epoch in range(20) if data[(epoch, 29)]]
    assert max(spans) < 20
    assert len({int(call[0]) for call in videos.calls}) > 10


def test_samples_are_a_function_of_epoch_and_index() -> None:
    videos = FakeVideos(6)
    one, again, later = (collate_clips([dataset(videos)[key]]) for key in ((0, 2), (0, 2), (1, 2)))
    assert same(one, again)
    assert not torch.equal(one.index[2], later.index[2]) or not torch.equal(one.frames, later.frames)
    assert not torch.equal(one.draws[0].box, later.draws[0].box)
    assert not same(one, collate_clips([dataset(videos, seed=8)[(0, 2)]]))


def test_repeats_open_once_and_are_what_they_are_alone() -> None:
    videos = FakeVideos(8, broken=(2,))
    data = dataset(videos, repeats=3)
    keys = [(6, 5), (7, 5), (8, 5), (6, 2), (7, 2), (8, 2), (9, 5)]
    together = data.__getitems__(keys)
    shown = together[3].video_id
    assert videos.opened == [5, 2, shown, 5]  # the last key is of another epoch
    assert all((np.diff(call) > 0).all() for call in videos.calls)
    for key, sample in zip(keys, together, strict=True):
        alone = data[key]
        told = alone.failures if key[0] % 3 == 0 else []
        assert same(collate_clips([replace(alone, failures=told)]), collate_clips([sample]))
    assert {sample.video_id for sample in together[3:6]} == {shown}
    windows = {tuple(sample.times[0].tolist()) for sample in together[:3]}
    assert len(windows) == 3
    assert len({sample.draws[0].box.numpy().tobytes() for sample in together[:3]}) == 3


def test_clips_run_backwards_and_lose_frames_at_the_rate_asked_for() -> None:
    videos, plain = FakeVideos(5), ViewSpec("a", 1, 6, seconds=0.5, size=16)
    kinds = [plain, replace(plain, reverse_p=0.5), replace(plain, drop_p=0.5)]
    samples = [ClipDataset(videos, [kind], opener=videos.open, seed=3) for kind in kinds]
    backwards = 0
    for epoch in range(40):
        usual, turned, torn = (data[(epoch, epoch % 5)] for data in samples)
        shown, back = usual.times[0], turned.times[0]
        assert torch.equal(back, shown) or torch.equal(back, shown.flip(0))
        assert torch.equal(
            turned.frames[turned.index[0]],
            usual.frames[usual.index[0]].flip(0)
            if torch.equal(back, shown.flip(0))
            else usual.frames[usual.index[0]],
        )
        backwards += int(torch.equal(back, shown.flip(0)))
        assert set(torn.times[0].tolist()) <= set(shown.tolist())
        assert len(torn.frames) == len(set(torn.times[0].tolist()))  # lost frames are not decoded
    assert 10 < backwards < 30


def test_a_broken_video_is_replaced_deterministically_and_reported() -> None:
    videos = FakeVideos(8, broken=(2, 5))
    data = dataset(videos)
    shown = {}
    for epoch in range(30):
        sample = data[(epoch, 2)]
        assert sample.video_id not in (2, 5)
        assert sample.failures[0] == FailedVideo(2, "2.mp4", "moov atom not found", decoder="pyav")
        assert len(sample.failures) == len({failure.video_id for failure in sample.failures})
        assert same(collate_clips([sample]), collate_clips([data[(epoch, 2)]]))
        reference = FakeReader(sample.video_id, []).frames(videos.calls[-1])
        expected = tuple(np.array(reference.shape[1:3]) * 36 / min(reference.shape[1:3]))
        assert sample.frames.shape[1:3] == tuple(int(side) for side in expected)
        shown[epoch] = sample.video_id
    assert set(shown.values()) == {0, 1, 3, 4, 6, 7}
    assert any(len(data[(epoch, 2)].failures) == 2 for epoch in range(30))
    assert not data[(0, 3)].failures


def test_giving_up_names_the_first_video_and_its_cause() -> None:
    videos = FakeVideos(6, broken=(0, 1, 2, 3, 4, 5))
    with pytest.raises(VidsslError, match=r"4\.mp4: moov atom not found; and the 2 videos .*max_attempts=3"):
        dataset(videos, max_attempts=3)[(0, 4)]
    assert len(videos.opened) == 3
    with pytest.raises(VidsslError, match="and the 5 videos"):
        dataset(videos)[(0, 4)]  # never the same video twice


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window_seconds": 0.25}, "view 'local': seconds=0.5: longer than the decoded window, 0.25 s"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"max_window_frames": 0}, "max_window_frames=0"),
    ],
)
def test_impossible_data_sets_are_refused(options: dict[str, Any], text: str) -> None:
    with pytest.raises(VidsslError, match=text):
        dataset(FakeVideos(3), **options)
    with pytest.raises(VidsslError, match="no videos"):
        dataset(FakeVideos(0))


def test_evaluation_never_replaces_a_broken_video() -> None:
    videos = FakeVideos(5, broken=(1,))
    spec = EvalSpec(ClipSpec(4, seconds=math.inf), clips_per_video=2, size=20, crops=3)
    data = EvalClipDataset(videos, spec, opener=videos.open)
    batches = list(build_eval_loader(data, 2, num_workers=0))
    assert [batch.video_id.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch.failed.tolist() for batch in batches] == [[False, True], [False, False], [False]]
    assert batches[0].failures == [FailedVideo(1, "1.mp4", "moov atom not found", decoder="pyav")]
    assert not batches[0].frames[1].any()
    views = render_eval_views(batches[0], spec, MEAN, STD)
    assert [view.shape for view in views] == [(2, 3, 4, 20, 20)] * 6
    alone = render_eval_views(collate_clips([data[0]]), spec, MEAN, STD)
    assert all(torch.equal(a[0], b[0]) for a, b in zip(alone, views, strict=True))


def test_evaluation_clips_are_resized_in_the_worker() -> None:
    videos = FakeVideos(3)
    clip = ClipSpec(4, stride=2)
    for spec, shape in (
        (EvalSpec(clip, size=20), (4, 20, 25)),  # 43 x 55
        (EvalSpec(clip, size=20, short_side=30), (4, 30, 38)),
        (EvalSpec(clip, size=20, resize="squash"), (4, 20, 20)),
        (EvalSpec(clip, size=86), (4, 86, 110)),
    ):
        sample = EvalClipDataset(videos, spec, opener=videos.open)[1]
        assert sample.frames.shape[:3] == shape
        assert sample.draws == []


class Folder:
    def __init__(self, paths: list[Path]) -> None:
        self.files, self.paths = paths, [str(path) for path in paths]

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> Path:
        return self.files[i]

    def part(self, i: int) -> None:
        pass

    def timeline(self, i: int) -> None:
        pass


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the shared videos at {SHARED.name}")
def test_real_videos_and_a_truncated_one() -> None:
    good = (
        sorted((SHARED / "videos/ucf101/val").rglob("*.*4"))[:4]
        or sorted((SHARED / "videos").rglob("*.avi"))[:4]
    )
    empty = next(file for file in sorted((SHARED / "odd_videos").rglob("*.mp4")) if file.stat().st_size == 0)
    data = ClipDataset(Folder([*good, empty]), [replace(VIEWS[0], size=64)], decode_size=96, seed=1)
    (batch,) = build_loader(data, GlobalBatchSampler(5, 5, total_steps=1), num_workers=0)
    assert [failure.video_id for failure in batch.failures] == [4]
    assert (batch.sizes.amin(1) == 96).all()
    for view in render_views(batch, [replace(VIEWS[0], size=64)], MEAN, STD):
        assert view.shape == (5, 3, 4, 64, 64)
        assert view.isfinite().all()
        assert view.std(dim=(1, 2, 3, 4)).min() > 0.05


def test_large_frames_are_resized_one_by_one_to_the_same_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_numbered(tmp_path / "a.mp4", frames=60)
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,0.4,\n")
    index = VideoIndex.read(tmp_path / "list.csv")
    spec = EvalSpec(ClipSpec(5, seconds=math.inf), size=16, resize="squash")

    def samples() -> list[torch.Tensor]:
        return [
            ClipDataset(index, VIEWS, decode_size=24)[(0, 0)].frames,
            ClipDataset(index, VIEWS, decode_size=None)[(0, 0)].frames,
            EvalClipDataset(index, spec)[0].frames,
        ]

    expected = samples()
    monkeypatch.setattr("vidssl.data.videos.LARGE", 0)
    monkeypatch.setattr(PyAVReader, "frames", None)  # that holds all frames of a clip
    assert all(torch.equal(x, y) for x, y in zip(samples(), expected, strict=True))
    assert min(expected[0].shape[1:3]) == 24


def test_a_segment_is_sampled_like_the_file_that_holds_nothing_else(tmp_path: Path) -> None:
    write_numbered(tmp_path / "a.mp4", frames=100)
    (tmp_path / "list.csv").write_text("path,start,end\na.mp4,0.4,1.2\na.mp4,2.0,\na.mp4,9,10\n")
    index = VideoIndex.read(tmp_path / "list.csv")
    view = ViewSpec("global", 2, 4, size=16, stride=3)
    data = ClipDataset(index, [view], window_seconds=0.6, decode_size=None, seed=1, max_attempts=1)
    for epoch in range(20):  # frames 10 to 29, of which windows of 15
        sample = data[(epoch, 0)]
        shown = torch.tensor(numbers_of(sample.frames.numpy()))
        assert shown.min() >= 10
        assert shown.max() < 30
        for own, times in zip(sample.index, sample.times, strict=True):
            torch.testing.assert_close(times, (shown[own] - 10) / 25)
    evaluated = EvalClipDataset(index, EvalSpec(ClipSpec(5, seconds=math.inf), size=48, resize="crop"))
    spread = evaluated[1]  # frames 50 to 99; resized, so told by their times
    torch.testing.assert_close(
        spread.times[0], torch.tensor([0.16, 0.56, 0.96, 1.36, 1.76]), atol=0.021, rtol=0
    )
    beyond = evaluated[2]
    assert beyond.failed
    assert beyond.failures[0].path.endswith("a.mp4#t=9,10")
    assert "begins at 9 s, but the video ends at 4 s" in beyond.failures[0].reason
    with pytest.raises(VidsslError, match=r"a\.mp4#t=9,10: the part begins at 9 s"):
        data[(0, 2)]


def test_videos_that_are_known_are_decoded_to_where_they_belong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch is the same, without a copy; also where a video fails or comes in the place of one."""
    for i, (height, width) in enumerate([(48, 64), (40, 72), (48, 64), (36, 36)]):
        frames = np.random.default_rng(i).integers(0, 256, (20 + 9 * i, height, width, 3), dtype=np.uint8)
        write_video(tmp_path / "videos" / f"{i}.mp4", frames, 25)
    manifest = tmp_path / "videos.arrow"
    write_index(VideoIndex.read(tmp_path / "videos"), manifest, workers=1, progress=False)
    index, asked = VideoIndex.read(manifest), []

    def empty(*shape: int) -> torch.Tensor:
        asked.append(shape)
        return torch.full(shape, 77, dtype=torch.uint8)

    def compare(**how: Any) -> None:
        asked.clear()
        for epoch in range(4):
            keys = [(epoch, i) for i in (3, 0, 2, 1)]
            direct = ClipDataset(index, VIEWS, window_seconds=1, **how).batch(keys, empty)
            usual = ClipDataset(index, VIEWS, window_seconds=1, opener=open_video, **how).batch(keys)
            assert same(direct, usual)
            assert direct.failures == usual.failures

    whole = PyAVReader.frames
    with monkeypatch.context() as patch:
        patch.setattr(PyAVReader, "frames", lambda self, at: pytest.fail("decoded elsewhere"))
        ClipDataset(index, VIEWS, window_seconds=1).batch([(0, i) for i in range(4)], empty)
    compare()
    assert len(asked) == 4
    compare(decode_size=40)  # frames that are made smaller are copied
    compare(repeats=2)

    def fails(self: PyAVReader, at: Any, out: Any = None) -> Any:
        if self.path.stem == "1":  # the largest
            raise DecodeError(self.path, "pyav", "frame 3 is damaged")
        return whole(self, at) if out is None else into(self, at, out)

    into = PyAVReader.frames_into
    monkeypatch.setattr(PyAVReader, "frames_into", fails)
    monkeypatch.setattr(PyAVReader, "frames", fails)
    compare()
    assert len(asked) > 4  # the canvas had other sides than are needed now
    (tmp_path / "videos/0.mp4").write_bytes(b"no more")
    compare()
    assert (
        "has changed since" in ClipDataset(index, VIEWS, window_seconds=1).batch([(0, 0)]).failures[0].reason
    )
