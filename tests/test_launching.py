from __future__ import annotations

import pytest

from vidssl.launching import asked_processes


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
