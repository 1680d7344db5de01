from __future__ import annotations

import ast
import math
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

import vidssl.data
import vidssl.synthetic
from vidssl.data.batch import ClipBatch, collate_clips
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import ClipDataset, EvalClipDataset
from vidssl.data.decode.reader import DecodeError
from vidssl.data.loader import build_eval_loader, build_loader
from vidssl.data.manifest.quarantine import FailedVideo
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.evaluation import EvalSpec, render_eval_views
from vidssl.data.views.render import render_views
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError

SHARED = Path(__file__).parents[2] / "../shared/data"
MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
VIEWS = [
    ViewSpec("global", 2, 4, size=24, jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, gray_p=0.2, blur_p=0.5),
    ViewSpec("local", 3, 2, seconds=0.5, size=16, scale=(0.1, 0.4)),
]


@dataclass
class FakeReader:
    """A video of noise that is the same whenever it is opened; every frame can be told apart from every other one."""

    video_id: int
    calls: list[NDArray[np.int64]]
    fps: float = 25.0

    @property
    def times(self) -> NDArray[np.float64]:
        return np.arange(30 + 7 * self.video_id) / self.fps

    def frames(self, indices: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.calls.append(indices)
        size = (40 + 3 * self.video_id, 56 - self.video_id, 3)
        rngs = (np.random.default_rng((self.video_id, int(i))) for i in indices)
        return np.stack([rng.integers(0, 256, size, dtype=np.uint8) for rng in rngs])

    def __enter__(self) -> FakeReader:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


class FakeVideos:
    """`count` videos, some of which cannot be opened and some of which never finish; also the opener of them."""

    def __init__(self, count: int, broken: tuple[int, ...] = (), endless: tuple[int, ...] = ()) -> None:
        self.count, self.broken, self.endless = count, broken, endless
        self.opened: list[int] = []
        self.calls: list[NDArray[np.int64]] = []

    def __len__(self) -> int:
        return self.count

    def path(self, i: int) -> Path:
        return Path(f"{i}.mp4")

    def open(self, path: Path) -> FakeReader:
        video_id = int(path.stem)
        self.opened.append(video_id)
        while video_id in self.endless:
            time.sleep(0.01)
        if video_id in self.broken:
            raise DecodeError(path, "pyav", "moov atom\nnot found")
        return FakeReader(video_id, self.calls)


def dataset(videos: FakeVideos, **options: Any) -> ClipDataset:
    defaults: dict[str, Any] = {"window_seconds": 1.0, "decode_size": 36, "seed": 7}
    return ClipDataset(videos, VIEWS, opener=videos.open, **{**defaults, **options})


def sampler(num: int = 12, batch: int = 4, **options: Any) -> GlobalBatchSampler:
    return GlobalBatchSampler(num, batch, **{"seed": 7, "total_steps": 6, **options})


def tensors(batch: ClipBatch) -> list[Tensor]:
    fields = [field for draw in batch.draws for field in draw]
    return [batch.frames, batch.sizes, *batch.index, *batch.times, batch.video_id, *fields, batch.failed]


def same(a: ClipBatch, b: ClipBatch) -> bool:
    return a.failures == b.failures and all(
        torch.equal(x, y) for x, y in zip(tensors(a), tensors(b), strict=True)
    )


# --- the sampler -----------------------------------------------------------------------------------------------------

sizes = st.tuples(st.integers(1, 40), st.integers(1, 40)).filter(lambda p: p[1] <= p[0])


@given(sizes, st.booleans(), st.integers(0, 2**40), st.integers(0, 30))
@settings(max_examples=25, deadline=None)
def test_resuming_at_any_step_gives_the_tail_of_the_straight_run(
    size: tuple[int, int], drop_last: bool, seed: int, start: int
) -> None:
    straight = list(islice(GlobalBatchSampler(*size, seed=seed, drop_last=drop_last), 35))
    resumed = GlobalBatchSampler(*size, seed=seed, drop_last=drop_last, start_step=start)
    assert list(islice(resumed, 35 - start)) == straight[start:]


@given(st.integers(6, 50), st.integers(1, 3), st.sampled_from([1, 2, 3]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_processes_together_are_one_process(
    num: int, share: int, processes: int, drop_last: bool
) -> None:
    batch = min(share * 6, num // 6 * 6)  # a multiple of 1, 2 and 3
    whole = sampler(num, batch, drop_last=drop_last)
    parts = [
        sampler(num, batch, num_processes=processes, rank=r, drop_last=drop_last) for r in range(processes)
    ]
    for step, *shares in zip(whole, *parts, strict=True):
        assert step == [key for part in shares for key in part]


@given(sizes, st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_an_epoch_shows_every_video_at_most_once_and_with_drop_last_off_exactly_once(
    size: tuple[int, int], seed: int
) -> None:
    num, batch = size
    keys = [
        key for step in islice(GlobalBatchSampler(num, batch, seed=seed), 3 * (num // batch)) for key in step
    ]
    assert len(set(keys)) == len(keys)
    assert [epoch for epoch, _ in keys] == sorted(epoch for epoch, _ in keys)
    assert max(epoch for epoch, _ in keys) == 2
    straight = islice(GlobalBatchSampler(num, batch, seed=seed, drop_last=False), math.ceil(3 * num / batch))
    keys = [key for step in straight for key in step][: 3 * num]
    for epoch in range(3):
        assert sorted(i for e, i in keys if e == epoch) == list(range(num))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [
        tuple(
            i for step in islice(GlobalBatchSampler(50, 50, seed=seed, start_step=epoch), 1) for _, i in step
        )
        for seed in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(orders)) == 4


def test_length_and_epochs_of_the_sampler() -> None:
    assert len(sampler(total_steps=9, start_step=4)) == 5
    with pytest.raises(TypeError, match="never ends"):
        len(sampler(total_steps=None))
    assert [sampler(10, 4).batch(s)[0][0] for s in range(5)] == [0, 0, 1, 1, 2]
    assert [sampler(10, 4, drop_last=False).batch(s)[0][0] for s in range(6)] == [0, 0, 0, 1, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"num_samples": 3, "batch_size": 4}, "batch_size=4: must lie between 1 and the number of videos, 3"),
        ({"num_samples": 9, "batch_size": 4, "num_processes": 3}, "multiple of the number of processes, 3"),
        ({"num_samples": 9, "batch_size": 4, "num_processes": 2, "rank": 2}, "rank=2"),
        ({"num_samples": 9, "batch_size": 4, "start_step": 5, "total_steps": 4}, "start_step=5"),
        ({"num_samples": 9, "batch_size": 4, "seed": -3}, "seed -3"),
    ],
)
def test_impossible_samplers_are_refused(arguments: dict[str, int], text: str) -> None:
    with pytest.raises(VidsslError, match=text):
        GlobalBatchSampler(**arguments)  # type: ignore[arg-type]


# --- training samples --------------------------------------------------------------------------------------------------


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


def test_a_broken_video_is_replaced_deterministically_and_reported() -> None:
    videos = FakeVideos(8, broken=(2, 5))
    data = dataset(videos)
    shown = {}
    for epoch in range(30):
        sample = data[(epoch, 2)]
        assert sample.video_id not in (2, 5)
        assert sample.failures[0] == FailedVideo(2, "2.mp4", "moov atom not found")
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


# --- batches -----------------------------------------------------------------------------------------------------------


def test_uneven_videos_share_a_canvas() -> None:
    data = dataset(FakeVideos(12), decode_size=None)
    samples = [data[(0, index)] for index in (0, 5, 11)]
    batch = collate_clips(samples)
    assert batch.frames.shape[2:] == (40 + 33, 56, 3)
    assert batch.sizes.tolist() == [[40, 56], [55, 51], [73, 45]]
    for row, sample in enumerate(samples):
        n, h, w, _ = sample.frames.shape
        assert torch.equal(batch.frames[row, :n, :h, :w], sample.frames)
        assert not batch.frames[row, n:].any()
        assert not batch.frames[row, :, h:].any()
        assert not batch.frames[row, :, :, w:].any()
    assert batch.video_id.tolist() == [0, 5, 11]
    assert [len(view) for view in batch.index] == [3] * 5
    assert len(batch) == 3
    assert same(batch.to("cpu"), batch)


def test_the_same_sample_renders_alike_in_any_batch() -> None:
    data = dataset(FakeVideos(9), decode_size=None)
    alone = render_views(collate_clips([data[(1, 4)]]), VIEWS, MEAN, STD)
    among = render_views(collate_clips([data[(1, i)] for i in (8, 4, 0, 7)]), VIEWS, MEAN, STD)
    assert len(alone) == 5
    assert [view.shape for view in alone] == [(1, 3, 4, 24, 24)] * 2 + [(1, 3, 2, 16, 16)] * 3
    for a, b in zip(alone, among, strict=True):
        assert torch.equal(a[0], b[1])
        assert not torch.equal(a[0], b[2])


def test_workers_do_not_change_the_data_nor_touch_global_generators() -> None:
    data = dataset(FakeVideos(12, broken=(3,)))
    state = torch.get_rng_state()
    legacy = str(np.random.get_state())  # noqa: NPY002
    here = list(build_loader(data, sampler(), num_workers=0))
    there = list(build_loader(data, sampler(), num_workers=2))
    assert len(here) == 6
    assert all(same(a, b) for a, b in zip(here, there, strict=True))
    assert sum(len(batch.failures) for batch in here) == 2  # video 3 once in each of the two epochs
    assert torch.equal(torch.get_rng_state(), state)
    assert str(np.random.get_state()) == legacy  # noqa: NPY002


def test_a_resumed_loader_continues_bit_for_bit() -> None:
    data = dataset(FakeVideos(12))
    straight = list(build_loader(data, sampler(), num_workers=0))
    resumed = list(build_loader(data, sampler(start_step=4), num_workers=0))
    assert [same(a, b) for a, b in zip(straight[4:], resumed, strict=True)] == [True, True]
    assert not same(straight[0], straight[3])


@pytest.mark.parametrize("processes", [2, 4])
def test_the_batches_of_all_processes_are_the_global_batch(processes: int) -> None:
    data = dataset(FakeVideos(12))
    parts = [
        list(build_loader(data, sampler(num_processes=processes, rank=r), num_workers=0))
        for r in range(processes)
    ]
    for step, batch in enumerate(build_loader(data, sampler(), num_workers=0)):
        views = render_views(batch, VIEWS, MEAN, STD)
        shares = [render_views(part[step], VIEWS, MEAN, STD) for part in parts]
        for number, view in enumerate(views):
            assert torch.equal(view, torch.cat([share[number] for share in shares]))


def test_a_video_past_its_deadline_is_replaced() -> None:
    data = dataset(FakeVideos(4, endless=(1,)), deadline=0.3)
    (batch,) = build_loader(data, sampler(4, 4, total_steps=1), num_workers=1, timeout=20)
    assert [failure.video_id for failure in batch.failures] == [1]
    assert batch.failures[0].reason == "took longer than the deadline of 0.3 s"


def test_a_loader_for_another_data_set_is_refused() -> None:
    with pytest.raises(VidsslError, match="the sampler is for 12 videos, the data set has 5"):
        build_loader(dataset(FakeVideos(5)), sampler(12))
    with pytest.raises(VidsslError, match="num_workers=-1"):
        build_loader(dataset(FakeVideos(12)), sampler(12), num_workers=-1)


def test_a_batch_moves_what_the_device_needs() -> None:
    batch = collate_clips([dataset(FakeVideos(3))[(0, 1)]])
    moved = batch.to("meta")
    assert {
        x.device.type for x in (moved.frames, *moved.index, *moved.times, moved.video_id, moved.failed)
    } == {"meta"}
    assert moved.sizes.device.type == "cpu"
    assert all(field.device.type == "cpu" for draw in moved.draws for field in draw)
    assert moved.failures == batch.failures


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc to count open files")
def test_a_batch_from_a_worker_holds_one_file_descriptor() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    loader = build_loader(dataset(FakeVideos(12)), sampler(), num_workers=1)
    batches = list(loader)
    del loader
    assert (
        len(list(Path("/proc/self/fd").iterdir())) - before < len(batches) + 20
    )  # as tensors: over 50 a batch


def test_a_batch_survives_pickling() -> None:
    data = dataset(FakeVideos(4, broken=(1,)))
    batch = collate_clips([data[(0, 1)], data[(0, 2)]])
    assert same(pickle.loads(pickle.dumps(batch)), batch)
    assert batch.failures


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a CUDA device")
def test_batches_are_pinned() -> None:
    batch = collate_clips([dataset(FakeVideos(3))[(0, 1)]]).pin_memory()
    assert all(
        x.is_pinned() for x in (batch.frames, *batch.index, *batch.times, batch.video_id, batch.failed)
    )
    assert same(batch.to("cuda", non_blocking=True).to("cpu"), batch)


# --- evaluation ----------------------------------------------------------------------------------------------------------


def test_evaluation_never_replaces_a_broken_video() -> None:
    videos = FakeVideos(5, broken=(1,))
    spec = EvalSpec(ClipSpec(4, seconds=math.inf), clips_per_video=2, size=20, crops=3)
    data = EvalClipDataset(videos, spec, opener=videos.open)
    batches = list(build_eval_loader(data, 2, num_workers=0))
    assert [batch.video_id.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
    assert [batch.failed.tolist() for batch in batches] == [[False, True], [False, False], [False]]
    assert batches[0].failures == [FailedVideo(1, "1.mp4", "moov atom not found")]
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


@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_evaluation_shows_every_video_exactly_once(processes: int) -> None:
    videos = FakeVideos(5)
    data = EvalClipDataset(videos, EvalSpec(ClipSpec(1, stride=1), size=8), opener=videos.open)
    seen = [
        int(video)
        for rank in range(processes)
        for batch in build_eval_loader(data, 2, num_processes=processes, rank=rank, num_workers=0)
        for video in batch.video_id
    ]
    assert sorted(seen) == [0, 1, 2, 3, 4]


# --- rules and real files ------------------------------------------------------------------------------------------------


def walk_outside_forks(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below, but those in a block that gives torch's generator its state back."""
    yield node
    if isinstance(node, ast.With) and "fork_rng" in ast.unparse(node.items[0]):
        return
    for child in ast.iter_child_nodes(node):
        yield from walk_outside_forks(child)


def test_no_data_module_draws_from_a_global_generator() -> None:
    allowed = {"Generator", "Philox", "SeedSequence", "default_rng"}
    draws = {
        "rand",
        "randn",
        "randint",
        "randperm",
        "manual_seed",
        "seed",
        "normal",
        "bernoulli",
        "multinomial",
    }
    offences = []
    rooms = [Path(room.__file__).parent for room in (vidssl.data, vidssl.synthetic)]
    files = [file for room in rooms for file in room.rglob("*.py")]
    assert {"decode", "manifest", "views", "data", "synthetic"} == {file.parent.name for file in files}
    for file in files:
        for node in walk_outside_forks(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                offences += [(file.name, a.name) for a in node.names if a.name == "random"]
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                chain = ast.unparse(node)
                if chain.startswith("np.random.") and node.attr not in allowed:
                    offences.append((file.name, chain))
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("torch."):
                with_generator = any(keyword.arg == "generator" for keyword in node.keywords)
                with_generator |= ast.unparse(node.func).startswith("torch.Generator(")
                if ast.unparse(node.func).split(".")[-1] in draws and not with_generator:
                    offences.append((file.name, ast.unparse(node.func)))
    assert offences == []


class Folder:
    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def path(self, i: int) -> Path:
        return self.paths[i]


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
