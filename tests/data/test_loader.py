from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import vidssl.data
import vidssl.synthetic
from tests.data.fake_videos import MEAN, STD, VIEWS, FakeVideos, dataset, same, sampler
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader, build_loader
from vidssl.data.views.evaluation import EvalSpec
from vidssl.data.views.render import render_views
from vidssl.errors import VidsslError


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
    (batch,) = build_loader(data, sampler(4, 4, total_steps=1), num_workers=1)
    assert [failure.video_id for failure in batch.failures] == [1]
    assert batch.failures[0].reason == "took longer than the deadline of 0.3 s"


def test_a_loader_for_another_data_set_is_refused() -> None:
    with pytest.raises(VidsslError, match="the sampler is for 12 videos, the data set has 5"):
        build_loader(dataset(FakeVideos(5)), sampler(12))
    with pytest.raises(VidsslError, match="num_workers=-1"):
        build_loader(dataset(FakeVideos(12)), sampler(12), num_workers=-1)


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


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_batches_do_not_lie_in_dev_shm() -> None:
    """Containers have 64 MB of it unless told otherwise."""
    loader = iter(build_loader(dataset(FakeVideos(4)), sampler(4, 4, total_steps=2), num_workers=1))
    batch = next(loader)
    sizes = {"/memfd:vidssl": 0, "/dev/shm/": 0}
    for line in Path("/proc/self/maps").read_text().splitlines():
        first, stop = (int(place, 16) for place in line.split()[0].split("-"))
        for name in sizes:
            sizes[name] += (stop - first) * (name in line)
    assert sizes["/memfd:vidssl"] >= batch.frames.nbytes
    assert sizes["/dev/shm/"] < 2**20
    loader.close()


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
    some = {"decode", "manifest", "views", "data", "synthetic", "factors", "objects"}
    assert some <= {file.parent.name for file in files}
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
