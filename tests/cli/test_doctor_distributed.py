"""What the processes of a run are asked before it, with differences that were planted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from tests.command_line import one_line
from tests.distributed_runner import run_on_processes
from tests.training.small_runs import launch
from vidssl.distributed import rank
from vidssl.doctor import processes
from vidssl.doctor.processes import Seat, differences, examine, shared_devices


def examined(recipe: str, planted: str) -> dict[str, Any]:
    """On each of two processes, the second of which has something else."""
    overrides, second = [], rank() == 1
    if second and planted == "recipe":
        overrides = ["train.lr=0.5"]
    if second and planted == "unreadable":
        recipe = str(Path(recipe).with_name("nowhere.yaml"))
    if second and planted == "data":
        overrides = [f"data.train={Path(recipe).parent / 'other'}"]
    with pytest.MonkeyPatch.context() as patch:
        if second and planted == "versions":
            patch.setattr(processes, "environment", lambda: {"platform": "", "packages": {"torch": "0.1"}})
        if second and planted == "sum":
            patch.setattr(processes, "all_sum", lambda x: dist.all_reduce(x) or x * 2)
        return examine(Seat("node", rank(), "cpu"), recipe, overrides, sizes=(2**12, 2**16))


PLANTED = {
    "nothing": [],
    "recipe": ["recipe: train.lr: 0.001 on rank 0; 0.5 on rank 1"],
    "versions": ["versions: packages.torch: "],
    "data": ["recipe: data.train: ", "data: train.0.digest: "],
    "unreadable": ["recipe: rank 1: "],
    "sum": ["all-reduce: wrong sum on rank 1 (node): 6 instead of 3, 1000 of 1000 numbers"],
}


def all_examined(recipe: str) -> list[dict[str, Any]]:
    return [examined(recipe, planted) for planted in PLANTED]


def test_a_planted_difference_is_named_with_its_process(recipe, sprites):
    other = recipe.parent / "other"  # one video is another, of the same name
    shutil.copytree(sprites / "train", other)
    videos = sorted(other.rglob("*.mp4"))
    shutil.copy(videos[1], videos[0])
    both = run_on_processes(all_examined, 2, str(recipe), time_limit=120)
    for (planted, said), first, second in zip(PLANTED.items(), *both, strict=True):
        assert first == second
        found = first["findings"]
        for line in said:
            assert any(one.startswith(line) for one in found), (planted, found)
        if planted != "versions":  # where nearly everything is another
            assert len(found) == len(said), (planted, found)
        assert first["compared"] == ["versions", "recipe", "data"]
        assert [row["bytes"] for row in first["all_reduce"]] == [2**12, 2**16]
        assert all(0 < row["bytes_per_second"] < 1e12 for row in first["all_reduce"])
        assert [one["rank"] for one in first["processes"]] == [0, 1]


def test_ranks_that_agree_are_named_together():
    facts = [{"torch": "2.15"}] * 3 + [{"torch": "2.14"}] + [{}] + [{"torch": "2.15"}]
    assert differences("versions", facts) == [
        "versions: torch: 2.15 on ranks 0-2, 5; 2.14 on rank 3; none on rank 4"
    ]
    assert differences("recipe", ["no such file"] * 2) == ["recipe: no such file"]
    assert differences("recipe", [{"nan": float("nan")}, {"nan": float("nan")}]) == []


def test_two_processes_on_one_gpu_are_named():
    seats = [Seat("a", 0, "cuda:0"), Seat("a", 1, "cuda:0"), Seat("b", 0, "cuda:0"), Seat("b", 1, "cuda:1")]
    assert shared_devices(seats) == ["device: cuda:0 of a is given to ranks 0-1; one process a GPU"]
    assert shared_devices([Seat("a", 0, "cpu"), Seat("a", 1, "cpu")]) == []


def test_alone_it_says_how_it_is_started(vidssl):
    assert "this is the only process; start it as the run will be" in one_line(
        *vidssl("doctor", "--distributed")
    )
    assert "is for --distributed" in one_line(*vidssl("doctor", "hsic"))


@pytest.mark.slow
def test_under_a_launcher_it_prints_a_line_each(recipe, tmp_path):
    report = tmp_path / "report.json"
    done = launch(["doctor", "--distributed", "--output", str(report), str(recipe)], processes=2)
    assert done.returncode == 0, done.stderr
    assert "rank 1: " in done.stdout and "the same on all processes: versions, recipe, data" in done.stdout
    assert json.loads(report.read_text())["findings"] == []
    command = [
        sys.executable,
        "-m",
        "vidssl.launching",
        "2",
        "doctor",
        "--distributed",
        str(recipe),
        "train.lrr=1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 2
    assert done.stderr.count("train.lrr") == 1 and "Traceback" not in done.stderr
