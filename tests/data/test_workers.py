"""Files that end or hold up the process that decodes them, and processes that end for other reasons."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.data.fake_videos import FakeReader, FakeVideos, dataset, sampler, tensors
from vidssl.data import workers
from vidssl.data.batch import ClipBatch
from vidssl.data.clips import ClipSpec
from vidssl.data.dataset import EvalClipDataset
from vidssl.data.loader import build_eval_loader, build_loader
from vidssl.data.views.evaluation import EvalSpec
from vidssl.errors import VidsslError

END = {
    "the decoder crashed (SIGSEGV)": lambda: os.kill(os.getpid(), signal.SIGSEGV),
    "the decoder crashed (SIGABRT)": os.abort,
    "the decoder crashed (exit code 3)": lambda: os._exit(3),
    "took longer than the deadline of 0.5 s": lambda: time.sleep(600),
}


class Treacherous(FakeVideos):
    """Videos one of which does something to the process that opens it, at most `often` times; tries are written down."""

    def __init__(
        self, count: int, guilty: int, act: Callable[[], object], log: Path, often: int = 10**9
    ) -> None:
        super().__init__(count)
        self.guilty, self.act, self.log, self.often = guilty, act, log, often

    def open(self, path: Path, *, timeline: object = None) -> FakeReader:
        if int(path.stem) == self.guilty:
            with self.log.open("a") as log:
                log.write("x")
            if self.log.stat().st_size <= self.often:
                faulthandler.disable()  # what the process says of its end is of no interest here
                self.act()
        return super().open(path)


def assert_equal(ours: list[ClipBatch], theirs: list[ClipBatch]) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(tensors(one), tensors(other), strict=True))
        assert [f.video_id for f in one.failures] == [f.video_id for f in other.failures]


@pytest.mark.parametrize("reason", END)
def test_a_file_that_costs_its_process_is_replaced_like_an_unreadable_one(
    reason: str, tmp_path: Path
) -> None:
    videos = Treacherous(12, 3, END[reason], tmp_path / "log")
    ours = list(build_loader(dataset(videos, deadline=0.5), sampler(), num_workers=2))
    assert_equal(ours, list(build_loader(dataset(FakeVideos(12, broken=(3,))), sampler(), num_workers=0)))
    failures = [failure for batch in ours for failure in batch.failures]
    assert [(f.path, f.reason) for f in failures] == [("3.mp4", reason)] * 2
    assert (tmp_path / "log").stat().st_size == 2  # in the first epoch; it is known in the second


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGSTOP"])
def test_a_process_ended_by_chance_leaves_no_trace(how: str, tmp_path: Path) -> None:
    def act() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), getattr(signal, how))

    videos = Treacherous(12, 3, act, tmp_path / "log", often=1)
    ours = list(build_loader(dataset(videos, deadline=0.5), sampler(), num_workers=2))
    assert_equal(ours, list(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=0)))
    assert not any(batch.failures for batch in ours)


def test_processes_killed_between_batches_are_replaced() -> None:
    batches = iter(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=2))
    ours = [next(batches)]
    for child in children():
        os.kill(child, signal.SIGKILL)
    ours += batches
    assert_equal(ours, list(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=0)))
    assert children() == []


def test_a_process_that_is_killed_again_and_again_is_no_fault_of_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "WAITS", (0.01, 0.01))
    videos = Treacherous(12, 3, lambda: os.kill(os.getpid(), signal.SIGKILL), tmp_path / "log")
    with pytest.raises(VidsslError, match=r"lost 3 times in a row, .* at 3.mp4 \(SIGKILL\).*memory"):
        list(build_loader(dataset(videos), sampler(), num_workers=2))
    assert children() == []


def test_a_limit_on_the_size_of_files_is_named() -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getpagesize(), limits[1]))
    try:
        with pytest.raises(VidsslError, match=r"larger than files may be here.*ulimit -f"):
            list(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=1))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_in_evaluation_the_file_counts_as_failed(tmp_path: Path) -> None:
    videos = Treacherous(5, 1, os.abort, tmp_path / "log")
    data = EvalClipDataset(videos, EvalSpec(ClipSpec(1, stride=1), size=8), opener=videos.open)
    batches = list(build_eval_loader(data, 2, num_workers=1))
    assert torch.cat([batch.failed for batch in batches]).tolist() == [False, True, False, False, False]
    assert [f.reason for batch in batches for f in batch.failures] == ["the decoder crashed (SIGABRT)"]


def test_an_error_comes_in_its_turn() -> None:
    data = dataset(FakeVideos(12, broken=tuple(range(1, 12))), max_attempts=1)
    order = sampler(batch=1, total_steps=12)
    good = next(step for step in range(12) if order.batch(step) == [(0, 0)])
    order.start_step = good
    batches = iter(build_loader(data, order, num_workers=2))
    assert next(batches).video_id.tolist() == [0]
    with pytest.raises(VidsslError, match=r"\.mp4: moov atom not found; and the 0 videos tried") as caught:
        next(batches)
    assert "Traceback" not in str(caught.value)


def test_a_mistake_in_the_code_shows_where_it_was_made() -> None:
    data = dataset(FakeVideos(12))
    data.opener = lambda path, timeline: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(ZeroDivisionError) as caught:
        list(build_loader(data, sampler(), num_workers=1))
    assert "test_workers.py" in caught.value.__notes__[0]


def test_a_loader_that_is_left_early_leaves_no_process() -> None:
    batches = iter(build_loader(dataset(FakeVideos(12)), sampler(), num_workers=2))
    next(batches)
    assert len(children()) == 2
    del batches
    assert children() == []


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
def test_no_process_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal\n"
        "from tests.data.fake_videos import FakeVideos, dataset, sampler\n"
        "from vidssl.data.loader import build_loader\n"
        "order = sampler(batch=1)\n"
        "first = order.batch(0)[0][1]\n"
        "others = FakeVideos(12, endless=tuple(set(range(12)) - {first}))\n"
        "batches = iter(build_loader(dataset(others), order, num_workers=4))\n"
        "next(batches)\n"
        "from tests.data.test_workers import children\n"
        "print(*children(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    pids = result.stdout.split()
    assert len(pids) == 4
    deadline = time.monotonic() + 10
    while any(is_alive(int(pid)) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def children() -> list[int]:
    """Living processes that this one started."""
    return [process.pid for process in multiprocessing.active_children() if process.pid is not None]


def is_alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status")
    try:
        return "State:\tZ" not in status.read_text()
    except OSError:
        return False
