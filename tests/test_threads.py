from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from tests.training.small_runs import assert_same, weights_of
from vidssl import threads
from vidssl.cli.app import app
from vidssl.cli.options import settled_threads
from vidssl.errors import VidsslError
from vidssl.files import read_json
from vidssl.threads import Cores, choose_threads, computing_with, cpu_quota


@pytest.mark.parametrize(
    ("cores", "workers", "processes", "expected"),
    [
        (Cores(2, 0.0), 0, 1, 2),
        (Cores(2, 1.0), 0, 1, 1),  # the case of one busy neighbour
        (Cores(2, 0.2), 0, 1, 2),
        (Cores(2, 7.0), 0, 1, 1),
        (Cores(2, 0.0), 2, 1, 1),
        (Cores(16, 0.3), 2, 1, 13),
        (Cores(16, 0.0), 15, 1, 8),
        (Cores(1.5, 0.0), 0, 1, 1),
        (Cores(16, 12.0), 1, 4, 3),  # they are what keeps the others busy
    ],
)
def test_threads_are_the_free_cores_less_those_of_workers(cores, workers, processes, expected) -> None:
    assert choose_threads(cores, workers, processes) == expected


@given(st.floats(0.1, 256), st.floats(0, 300), st.integers(0, 64), st.integers(1, 16))
def test_never_none_never_more_than_there_are_and_fewer_beside_more(usable, busy, workers, processes) -> None:
    chosen = choose_threads(Cores(usable, busy), workers, processes)
    assert 1 <= chosen <= max((usable + 0.25) / processes, 1)
    assert chosen >= choose_threads(Cores(usable, busy + 1), workers, processes)
    assert chosen >= choose_threads(Cores(usable, busy), workers + 1, processes)


def test_quotas_of_control_groups_count_those_of_parents_too(tmp_path: Path) -> None:
    own = tmp_path / "own"
    inner = tmp_path / "groups" / "job" / "step"
    inner.mkdir(parents=True)
    own.write_text("0::/job/step\n")
    assert cpu_quota(tmp_path / "groups", own) is None
    (inner / "cpu.max").write_text("max 100000\n")
    assert cpu_quota(tmp_path / "groups", own) is None
    (inner.parent / "cpu.max").write_text("150000 100000\n")
    assert cpu_quota(tmp_path / "groups", own) == 1.5
    (inner / "cpu.max").write_text("50000 100000\n")
    assert cpu_quota(tmp_path / "groups", own) == 0.5
    first = tmp_path / "groups" / "cpu,cpuacct" / "docker"
    first.mkdir(parents=True)
    own.write_text("4:memory:/docker\n3:cpu,cpuacct:/docker\n")
    (first / "cpu.cfs_quota_us").write_text("-1\n")
    (first / "cpu.cfs_period_us").write_text("100000\n")
    assert cpu_quota(tmp_path / "groups", own) is None
    (first / "cpu.cfs_quota_us").write_text("300000\n")
    assert cpu_quota(tmp_path / "groups", own) == 3
    assert cpu_quota(tmp_path / "groups", tmp_path / "missing") is None


def test_what_is_looked_at_is_this_machine() -> None:
    cores = threads.look_at_cores(0.01)
    assert cores.usable > 0
    assert 0 <= cores.busy <= 4096


def test_a_block_leaves_torch_as_it_was() -> None:
    before = torch.get_num_threads()
    with computing_with(before + 1):
        assert torch.get_num_threads() == before + 1
    with pytest.raises(ZeroDivisionError), computing_with(before + 1):
        raise ZeroDivisionError
    assert torch.get_num_threads() == before
    with computing_with(None):
        assert torch.get_num_threads() == before


def start(recipe: Path, *words: str):
    return CliRunner().invoke(app, ["pretrain", str(recipe), "train.steps=2", *words], catch_exceptions=False)


@pytest.fixture
def nobody_said(monkeypatch, tmp_path: Path) -> list[Cores]:
    """Nothing in the environment; the cores that are looked at come from the list."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "1")
    for name in threads.SET_BY:
        monkeypatch.delenv(name, raising=False)
    seen = [Cores(8, 7.0)]
    monkeypatch.setattr(threads, "look_at_cores", lambda: seen[-1])
    return seen


def test_a_run_says_and_records_its_threads_and_goes_on_with_them(recipe: Path, nobody_said) -> None:
    words = ["train.steps=4", "train.checkpoint_every=2"]
    first = start(recipe, "output=a", *words)
    assert "CPU threads: 1 (8 cores, 7.0 of them busy, 0 decoding workers" in first.stderr
    assert read_json(Path("a/environment.json"))["threads"] == 1
    whole = weights_of(Path("a"))
    shutil.rmtree("a/checkpoints/step_00000004")  # as if killed before it
    Path("a/latest.json").unlink()
    nobody_said.append(Cores(8, 0.0))
    again = start(recipe, "output=a", *words, "--resume")
    assert "CPU threads: 1 (as the run was begun with" in again.stderr
    assert read_json(Path("a/environment.json"))["threads"] == 1
    assert_same(whole, weights_of(Path("a")))


def test_threads_of_a_recipe_or_of_the_environment_stand(recipe: Path, nobody_said, monkeypatch) -> None:
    def train(*words: str):
        return CliRunner().invoke(
            app, ["pretrain", str(recipe), "train.steps=2", "data.workers=0", *words], catch_exceptions=False
        )

    assert "CPU threads" not in train("output=a", "train.threads=1").stderr
    assert read_json(Path("a/environment.json"))["threads"] == 1
    with pytest.raises(VidsslError, match="threads 1 → 2"):
        start(recipe, "output=a", "train.threads=2", "--resume")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert settled_threads(0, "cpu") is None
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert settled_threads(0, "cpu") == 1
    assert settled_threads(0, "cuda") is None


def test_evaluations_say_their_threads_too(tiny_clip: Path, sprites: Path, nobody_said) -> None:
    words = [
        "knn",
        f"local-dir:{tiny_clip}",
        str(sprites / "train"),
        str(sprites / "val"),
        "--frames",
        "2",
        "--clips",
        "1",
        "--workers",
        "0",
    ]
    ended = CliRunner().invoke(app, [*words, "--no-cache", "--output", "knn.json"], catch_exceptions=False)
    assert "CPU threads: 1 (8 cores" in ended.stderr
