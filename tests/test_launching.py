from __future__ import annotations

import os
import sys

import pytest

from vidssl import launching
from vidssl.launching import asked_processes, relaunch_on_cpu


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("python accelerate launch --cpu --num_processes 2 -m vidssl pretrain x", 2),
        ("python /venv/bin/accelerate launch --cpu --num-processes=3 -m vidssl pretrain x", 3),
        ("python -m accelerate.commands.launch --num_processes 4 --cpu -m vidssl knn", 4),
        ("python accelerate launch --cpu -m vidssl pretrain --num_processes 2", 1),
        ("bash -c vidssl --num_processes 2", 1),
        ("python accelerate launch --cpu --num_processes", 1),
        ("", 1),
    ],
)
def test_the_number_asked_for(command, processes):
    assert asked_processes(command.split()) == processes


def test_processes_started_for_the_cpu_see_no_gpu(monkeypatch):
    """With one GPU in sight accelerate's barrier looks for a second one; see `relaunch_on_cpu`."""
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(
        launching,
        "_parent_command",
        lambda: ["accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "vidssl"],
    )
    for name in launching.RANK_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")
    relaunch_on_cpu(["knn", "run"])
    assert not started
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    relaunch_on_cpu(["knn", "run"])
    ((program, command, environment),) = started
    assert program == sys.executable
    assert command[-4:] == ["-m", "vidssl", "knn", "run"]
    assert command[command.index("--nproc_per_node") + 1] == "2"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
