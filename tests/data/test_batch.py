from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from tests.data.fake_videos import MEAN, STD, VIEWS, FakeVideos, dataset, same, sampler
from vidssl.data.batch import collate_clips
from vidssl.data.loader import build_loader
from vidssl.data.views.render import render_views


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
