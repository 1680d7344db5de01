"""A step that hangs is named while it hangs, with its phase and videos; one in time, a checkpoint and an evaluation are not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch

from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.training import loop, pretrain
from vidssl.training.setup import Run
from vidssl.training.watchdog import Watchdog


def wait_for(said: list[str], count: int) -> None:
    ends = time.monotonic() + 10
    while len(said) < count and time.monotonic() < ends:
        time.sleep(0.01)


def test_what_hangs_is_named_once_for_each_deadline() -> None:
    said: list[str] = []
    with Watchdog(0.2, 3, said.append) as watch:
        watch.begin(7)
        watch.at("backward", [f"{i}.mp4" for i in range(5)])
        wait_for(said, 2)
    assert len(said) == 2
    assert said[0].startswith("process 3: step 7 has taken 0 s, more than train.step_deadline=0.2: backward")
    assert said[0].endswith("; videos 0.mp4, 1.mp4, 2.mp4 and 2 more")


def test_steps_in_time_and_what_is_no_step_are_not() -> None:
    said: list[str] = []
    with Watchdog(0.5, 0, said.append) as watch:
        watch.begin(1)
        watch.rest()
        time.sleep(0.8)
        watch.begin(2)
    assert said == []
    with Watchdog(None, 0, said.append) as watch:
        watch.begin(1)


def test_a_run_says_where_its_step_hangs(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    norms = loop.gradient_norms

    def slow(run: Run) -> Any:
        if run.step == 2:
            ends = time.monotonic() + 20
            while "step 2 has taken" not in seen[0] and time.monotonic() < ends:
                time.sleep(0.05)
                seen[0] += capfd.readouterr().err
        return norms(run)

    seen = [""]
    monkeypatch.setattr(loop, "gradient_norms", slow)
    pretrain(load_config(recipe, ["train.steps=2", "train.step_deadline=2"]))
    [line] = [line for line in seen[0].splitlines() if "step 2 has taken" in line]
    assert "vidssl: process 0: step 2 has taken" in line
    assert "update; videos " in line
    assert ".mp4, " in line


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_says_what_used_it_and_what_to_lower(
    recipe: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(loop, "compute_loss", fail)
    with pytest.raises(VidsslError) as raised:
        pretrain(load_config(recipe))
    line = str(raised.value)
    assert "\n" not in line
    for part in ("out of memory on cpu in step 1 (forward)", "weights ", "optimizer ", "8 clips", "2 x 4 x 32²",
                 "train.accumulation=2", "activation_checkpointing=true", "train.batch_size below 8"):  # fmt: skip
        assert part in line


def test_another_error_is_as_it_was(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("something else")

    monkeypatch.setattr(loop, "compute_loss", fail)
    with pytest.raises(RuntimeError, match="something else"):
        pretrain(load_config(recipe))
