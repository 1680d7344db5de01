"""benchmarks/gpu.py: a plan whose parts cannot cost each other anything, and its parts at toy sizes on a CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import psutil
import pytest
import torch

FILE = Path(__file__).parents[1] / "benchmarks" / "gpu.py"


@pytest.fixture(scope="module")
def gpu() -> ModuleType:
    spec = spec_from_file_location("gpu_benchmark", FILE)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_part_that_fails_or_hangs_costs_the_others_nothing(gpu: ModuleType, tmp_path: Path) -> None:
    hang = "import subprocess, sys, time; open(sys.argv[1], 'w').write('{\"kept\": 1}'); subprocess.Popen(['sleep', '987.25']); time.sleep(60)"
    say = "import sys; open(sys.argv[1], 'w').write('[1, 2]'); print('hello')"
    parts = [
        gpu.Part("hangs", 0.7, [sys.executable, "-S", "-c", hang, "{out}"]),
        gpu.Part("fails", 9, [sys.executable, "-S", "-c", "print('why'); raise SystemExit(3)"]),
        gpu.Part("works", 9, [sys.executable, "-S", "-c", say, "{out}"]),
    ]
    started = time.monotonic()
    gpu.run_parts(parts, tmp_path / "results", 20)
    assert time.monotonic() - started < 15
    found = {
        part.name: json.loads((tmp_path / "results" / f"{part.name}.json").read_text()) for part in parts
    }
    assert found["hangs"]["state"].startswith("ran over its") and found["hangs"]["measured"] == {"kept": 1}
    assert found["fails"]["state"] == "failed with exit code 3" and found["fails"]["said"] == ["why"]
    assert found["works"]["state"] == "done" and found["works"]["measured"] == [1, 2]
    assert not [one for one in psutil.process_iter(["cmdline"]) if one.info["cmdline"] == ["sleep", "987.25"]]


def test_when_the_time_is_over_the_rest_is_not_begun_and_said(gpu: ModuleType, tmp_path: Path) -> None:
    parts = [gpu.Part("never", 9, [sys.executable, "-c", "open('should-not-be', 'w')"])]
    assert gpu.run_parts(parts, tmp_path, 0.5)[0]["state"] == "no time left"
    assert json.loads((tmp_path / "never.json").read_text())["state"] == "no time left"


def test_the_plan_fits_into_its_time_and_names_files_that_are_there(gpu: ModuleType, tmp_path: Path) -> None:
    parts = gpu.plan("cuda", False, tmp_path)
    assert sum(part.seconds for part in parts) <= 60 * gpu.MINUTES - 30
    assert len({part.name for part in parts}) == len(parts)
    for part in parts:
        assert all(Path(word).exists() for word in part.words if word.startswith("/"))
    assert [part.name for part in gpu.plan("cpu", True, tmp_path)] == [part.name for part in parts]
    files = [word for part in parts if part.name == "tests" for word in part.words if word.endswith(".py")]
    assert str(FILE.parents[1] / "tests/training/test_loop.py") in files


@pytest.mark.slow
def test_all_parts_run_on_a_cpu_at_toy_sizes(tmp_path: Path) -> None:
    command = [sys.executable, str(FILE), "--device", "cpu", "--quick", "--output", str(tmp_path)]
    subprocess.run(command, check=True, timeout=600, env={**os.environ, "PYTHONPATH": str(FILE.parents[1])})
    step, training, recipes, views = (
        json.loads((tmp_path / f"{name}.json").read_text())["measured"]
        for name in ("step", "training", "recipes", "views")
    )
    assert step["divided"]["GFLOP"] > step["divided, .9 dropped"]["GFLOP"] > 0
    assert "seconds" in step["transformers TimeSformer"]
    assert training["0 workers"]["clips_per_second"] > 0
    assert recipes["demo"]["bytes"]["step"] > 0
    assert views["rows"]
    for name in ("objectives", "dynamics"):
        assert json.loads((tmp_path / name / f"{name}.json").read_text())["records"]
    said = json.loads((tmp_path / "tests.json").read_text())["said"]
    assert torch.cuda.is_available() or {*said[-1].split()[0]} == {"s"}  # found, and skipped
