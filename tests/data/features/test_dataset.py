"""Batches of kept features: which rows stand in them, and that nothing but the key decides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidssl.data.clips import ClipSpec, Window, view_indices
from vidssl.data.features.dataset import FeatureDataset
from vidssl.data.features.store import FeatureStore, read_features
from vidssl.data.order import GlobalBatchSampler
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError

DRAWS, FRAMES, DIM = 3, 6, 4


def write(file: Path, videos: int = 5, lost: tuple[int, ...] = (), **changes: Any) -> Path:
    """Rows that say of which video, draw and frame they are."""
    tensors, rows = {}, []
    for i in range(videos):
        frames = FRAMES + i % 2
        code = torch.zeros(DRAWS, frames, DIM)
        code[..., 0], code[..., 1] = i, torch.arange(DRAWS)[:, None]
        code[..., 2] = torch.arange(frames)
        times = (np.arange(frames) / 4).tolist()
        if i in lost:
            rows.append({"path": f"{i}.mp4", "label": None, "tensor": None, "reason": "torn"})
            continue
        tensors[str(i)] = code.half()
        rows.append({"path": f"{i}.mp4", "label": "x", "tensor": str(i), "times": times})
    made = {"trunk": "t", "dim": DIM, "grid": 0, "width": 0, "size": 32, "draws": DRAWS, **changes}
    save_file(tensors, file)
    file.with_suffix(".json").write_text(json.dumps({"rows": made, "videos": rows}))
    return file


def dataset(store: FeatureStore, seed: int = 0, **view: Any) -> FeatureDataset:
    spec = ViewSpec("global", 2, **{"frames": 3, "size": 32, "flip": 0.0, **view})
    return FeatureDataset(store, [spec], window_seconds=None, seed=seed)


def test_rows_are_those_of_the_frames_of_one_draw(tmp_path: Path) -> None:
    data = dataset(read_features(write(tmp_path / "a.safetensors")), frames=3, seconds=0.8)
    keys = [(7, 2), (0, 4), (1, 1)]
    batch = data.batch(keys)
    assert [view.shape for view in batch.views] == [(3, 3, DIM)] * 2
    assert batch.video_id.tolist() == [2, 4, 1]
    for view, times in zip(batch.views, batch.times, strict=True):
        assert view.dtype == torch.float32
        assert view[:, :, 0].tolist() == [[2.0] * 3, [4.0] * 3, [1.0] * 3]
        assert all(len(set(row.tolist())) == 1 for row in view[:, :, 1])  # one draw for the view
        torch.testing.assert_close(view[:, :, 2] / 4, times)
    first, second = (view[:, 0, 1] for view in batch.views)
    assert bool((first != second).all())  # two draws of a sample are two
    one = batch.views[0]
    assert one.data_ptr() + one.nbytes == batch.views[1].data_ptr()  # which an encoder takes without copying


def test_a_sample_depends_on_its_key_alone_and_windows_move(tmp_path: Path) -> None:
    store = read_features(write(tmp_path / "a.safetensors"))
    data, starts, drawn = dataset(store, frames=2, seconds=0.5), set(), set()
    for visit in range(40):
        alone, among = data.batch([(visit, 3)]), data.batch([(visit + 1, 0), (visit, 3)])
        for a, b in zip(alone.views, among.views, strict=True):
            assert torch.equal(a[0], b[1])
            starts.add(float(a[0, 0, 2]))
            drawn.add(float(a[0, 0, 1]))
    assert len(starts) >= FRAMES - 1
    assert drawn == {0.0, 1.0, 2.0}
    other = dataset(store, seed=1, frames=2, seconds=0.5)
    assert any(
        not torch.equal(other.batch([(v, 3)]).views[0], data.batch([(v, 3)]).views[0]) for v in range(5)
    )


def test_frames_are_chosen_as_of_a_video_with_these_times(tmp_path: Path) -> None:
    from vidssl.data.rng import Purpose, stream

    data = dataset(read_features(write(tmp_path / "a.safetensors")), frames=2, stride=2)
    times = np.arange(FRAMES) / 4
    for visit in range(5):
        for number, view in enumerate(data.batch([(visit, 2)]).views):
            rng = stream(0, Purpose.TIME, visit, 2, number)
            expected = view_indices(times, ClipSpec(2, stride=2), rng, Window(0.0, 1.5))
            assert view[0, :, 2].tolist() == expected.indices.tolist()


def test_reversed_and_dropped_frames(tmp_path: Path) -> None:
    data = dataset(read_features(write(tmp_path / "a.safetensors")), frames=5, reverse_p=1.0)
    assert bool((data.batch([(0, 0)]).views[0][0, :, 2].diff() < 0).all())
    data = dataset(read_features(tmp_path / "a.safetensors"), frames=5, drop_p=1.0)
    assert len(set(data.batch([(0, 0)]).views[0][0, :, 2].tolist())) == 1


def test_batches_follow_the_sampler_on_any_number_of_processes(tmp_path: Path) -> None:
    data = dataset(read_features(write(tmp_path / "a.safetensors")))
    samplers = [
        GlobalBatchSampler(5, 4, num_processes=n, rank=r, total_steps=3) for n, r in ((1, 0), (2, 0), (2, 1))
    ]
    whole, first, second = (list(data.batches(sampler)) for sampler in samplers)
    for one, a, b in zip(whole, first, second, strict=True):
        assert torch.equal(one.views[1], torch.cat([a.views[1], b.views[1]]))


def test_what_is_hidden_is_so_in_the_whole_view_and_in_no_other(tmp_path: Path) -> None:
    """The mean stays, views and visits differ, and a key says all."""
    file = write(tmp_path / "a.safetensors")
    plain, data = (dataset(read_features(file), frames=5, hide_p=p) for p in (0.0, 0.25))
    factors = []
    for visit in range(200):
        shown, whole = data.batch([(visit, 3)]), plain.batch([(visit, 3)])
        for view, all_of_it in zip(shown.views, whole.views, strict=True):
            ratio = (view / all_of_it)[0, :, 0]  # the video's number, which is not zero
            assert len(set(ratio.tolist())) == 1
            factors.append(float(ratio[0]))
        assert torch.equal(shown.views[0], data.batch([(visit, 3)]).views[0])
    assert set(factors) == {0.0, np.float32(1 / 0.75)}
    assert abs(factors.count(0.0) / len(factors) - 0.25) < 0.09  # four standard errors
    assert factors[::2] != factors[1::2]


def test_several_files_are_one_and_what_is_lost_is_named(tmp_path: Path) -> None:
    write(tmp_path / "b.safetensors", 3)
    write(tmp_path / "a.safetensors", 4, lost=(1,))
    store = read_features(tmp_path)
    assert store.index.paths == ("a/0.mp4", "a/2.mp4", "a/3.mp4", "b/0.mp4", "b/1.mp4", "b/2.mp4")
    assert [(video.path, video.reason) for video in store.failed] == [("a/1.mp4", "torn")]
    assert [float(store.rows(i)[0, 0, 0]) for i in range(6)] == [0.0, 2.0, 3.0, 0.0, 1.0, 2.0]
    before = store.digest()
    assert read_features(tmp_path).digest() == before
    write(tmp_path / "b.safetensors", 2)
    assert read_features(tmp_path).digest() != before


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: f.with_suffix(".json").unlink(), "a.json is missing"),
        (lambda f: f.with_suffix(".json").write_text('{"patches": {}}'), "holds no features of frames"),
        (lambda f: f.write_bytes(f.read_bytes()[:200]), "torn or damaged"),
        (lambda f: write(f, 5, dim=7), "tensor 0: .*not .* as a.json says"),
        (lambda f: write(f, 2, lost=(0, 1)), "features of none of its 2 videos"),
        (lambda f: write(f.with_name("b.safetensors"), 2, trunk="u"), "trunk u: in a.safetensors it is t"),
        (lambda f: f.unlink(), "no features of frames there"),
    ],
)
def test_what_is_not_as_it_was_written_is_refused(tmp_path: Path, spoil: Any, said: str) -> None:
    file = write(tmp_path / "a.safetensors")
    spoil(file)
    with pytest.raises(VidsslError, match=said) as raised:
        read_features(tmp_path)
    assert "\n" not in str(raised.value)
