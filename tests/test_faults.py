"""benchmarks/faults.py: it sees what it is to see, and a slice of it passes."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vidssl.files import seal, write_json

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def faults() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("faults")


def ended(run: Path, faults: ModuleType, weight: float = 1.0, skip: int = 0, left: str = "") -> Path:
    """What a run of as many steps leaves, in short."""
    steps = faults.STEPS
    checkpoint = run / "checkpoints" / f"step_{steps:08d}"
    checkpoint.mkdir(parents=True)
    save_file({"w": torch.tensor([weight, 2.0])}, checkpoint / "student.safetensors")
    seal(checkpoint)
    lines = [{"step": step, "loss": 1 / step} for step in range(1, steps + 1) if step != skip]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_json(run / "latest.json", {"checkpoint": str(checkpoint), "stopped": False})
    if left:
        (checkpoint.parent / left).mkdir()
    return run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weight": np.nextafter(np.float32(1), np.float32(2)).item()}, "1 of 1 tensors differ"),
        ({"skip": 7}, "the log differs"),
        ({"left": ".step_00000012.partial"}, "left-over files"),
    ],
)
def test_what_is_not_as_in_an_undisturbed_run_is_seen(faults, tmp_path, changes, said):
    reference = ended(tmp_path / "reference", faults)
    faults.require_equal(ended(tmp_path / "same", faults), reference)
    with pytest.raises(faults.Fault, match=said):
        faults.require_equal(ended(tmp_path / "other", faults, **changes), reference)


def test_a_torn_checkpoint_is_not_the_end_of_a_run(faults, tmp_path):
    reference = ended(tmp_path / "reference", faults)
    other = ended(tmp_path / "other", faults)
    file = next(other.rglob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(faults.Fault, match="newest whole checkpoint is that of step 0"):
        faults.require_equal(other, reference)


def test_corruptions_differ_from_what_they_corrupt(faults):
    content, rng = np.random.default_rng(0).bytes(5000), np.random.default_rng(1)
    assert sum(faults.videos.corrupt(content, rng) != content for _ in range(50)) >= 49


@pytest.mark.slow
def test_what_is_started_is_the_copy(faults, tmp_path):
    bench = faults.Bench(tmp_path, np.random.default_rng(0))
    start = bench.script("-m", "vidssl", "--version")
    assert start.end() == 0
    start = bench.script("-c", "import vidssl, harm.videos; print(vidssl.__file__)")
    assert start.end() == 0 and start.said.strip() == str(tmp_path / "package/vidssl/__init__.py")
    start = bench.script("-m", "timeit", "-n1", "-r1", "import vidssl; print(vidssl.__file__)")
    assert start.end() == 0 and start.said.startswith(str(tmp_path / "package/vidssl"))


@pytest.mark.slow
def test_killed_runs_end_as_those_never_killed(faults):
    wanted = {"kill_main": (faults.processes.kill_main, 2), "torn": (faults.machine.torn, 1)}
    rows = list(faults.run_cases(wanted, seed=0))
    assert [row["failure"] for row in rows] == [None, None]
    assert rows[0]["figures"]["kills"] == 2
    assert "passed" in faults.report(rows, 0, 2)


@pytest.mark.parametrize(
    "kind",
    [
        "PNG frames",
        "JPEG frames",
        "tar shards",
        "manifest",
        "kept as JPEG",
        pytest.param("datasets, saved", marks=pytest.mark.slow),
    ],
)
def test_damaged_sets_end_in_right_frames_or_a_reason(faults, sprites, tmp_path, kind):
    found = faults.readers.read_damaged(kind, 6, 4, tmp_path / "sets", sprites / "train")
    assert found.pop("copies") == 6 == sum(found.values())
    exact = {"a reason", "right frames", "fewer videos"}
    assert found.keys() <= (exact if faults.readers.KINDS[kind].exact else exact | {"other frames"})


def test_wrong_frames_are_seen(faults):
    right = np.arange(12 * 3).reshape(12, 3)
    is_part = faults.readers._is_part
    assert is_part(right, right) and is_part(right[1:], right) and is_part(right[:-1], right)
    assert not any(
        is_part(one, right) for one in (right[2:], right[::-1], right + 1, np.delete(right, 5, axis=0))
    )
    assert not is_part(right, None)
