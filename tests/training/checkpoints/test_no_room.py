"""Two processes, started as users start them, of which one meets a limit of the operating system in the middle of a run.

The limit on the size of a file is a real one, laid upon the running process from outside; nothing of the code is replaced.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.small_runs import assert_same, log_of, put_together, tensors_of
from vidssl.files import checkpoints_of, damage, read_json

pytestmark = pytest.mark.slow
STEPS, EVERY = 24, 3
LIMIT = 20_000  # bytes of a file: less than any checkpoint's weights, more than what else a run writes
RECIPE = [f"train.steps={STEPS}", f"train.checkpoint_every={EVERY}", "train.keep_checkpoints=100"]


def begin(recipe: Path, run: Path, *more: str) -> subprocess.Popen[str]:
    """A run on two processes."""
    command = [
        sys.executable,
        "-m",
        "vidssl.launching",
        "2",
        "pretrain",
        str(recipe),
        *RECIPE,
        f"output={run}",
    ]
    return subprocess.Popen(
        [*command, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"},
    )


def ended(started: subprocess.Popen[str]) -> tuple[int, list[str]]:
    """Exit code, and what was said of it."""
    _, said = started.communicate(timeout=400)
    return started.returncode, [line for line in said.splitlines() if line.startswith("vidssl: ")]


def processes_of(started: subprocess.Popen[str]) -> dict[int, int]:
    """Rank -> process, as the launcher told it."""
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    told = {child: Path(f"/proc/{child}/environ").read_bytes().split(b"\0") for child in children}
    return {
        rank: int(child) for rank in (0, 1) for child in children if f"RANK={rank}".encode() in told[child]
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, sprites: Path, tiny_clip: Path
) -> tuple[Path, Path]:
    """A recipe, and a run of it to the end."""
    from tests.conftest import write_recipe

    place = tmp_path_factory.mktemp("room")
    recipe = write_recipe(place, sprites, tiny_clip)
    code, said = ended(begin(recipe, place / "whole"))
    assert code == 0, said
    return recipe, place / "whole"


@pytest.mark.parametrize(
    ("split", "rank"), [(False, 0), (True, 1)], ids=["first writes all", "second writes its part"]
)
def test_a_file_that_may_not_grow_ends_the_run_on_all_and_it_goes_on_from_the_checkpoint_before(
    undisturbed: tuple[Path, Path], tmp_path: Path, split: bool, rank: int
) -> None:
    recipe, whole = undisturbed
    run, more = tmp_path / "run", [f"train.shard={str(split).lower()}"]
    if split:
        assert ended(begin(recipe, tmp_path / "whole", *more))[0] == 0
        whole = tmp_path / "whole"
    started = begin(recipe, run, *more)
    while not (run / "latest.json").exists() and started.poll() is None:
        time.sleep(0.01)
    processes = processes_of(started)
    assert processes.keys() == {0, 1}
    resource.prlimit(processes[rank], resource.RLIMIT_FSIZE, (LIMIT, LIMIT))
    code, said = ended(started)
    assert not [process for process in processes.values() if Path(f"/proc/{process}").exists()]
    assert code == 2
    [line] = said
    assert "cannot be written" in line and "File too large" in line and "the last checkpoint is" in line
    kept = checkpoints_of(run)
    assert 1 <= len(kept) < STEPS // EVERY
    assert all(damage(folder) is None for folder in kept)
    assert read_json(run / "latest.json") == {"checkpoint": f"checkpoints/{kept[0].name}", "stopped": False}
    assert kept[0].name in line
    assert {place.name for place in (run / "checkpoints").iterdir()} == {folder.name for folder in kept}
    code, said = ended(begin(recipe, run, *more, "--resume"))
    assert code == 0, said
    last = f"checkpoints/step_{STEPS:08d}"
    # Which process writes a number that all have is no matter of the run.
    all_of = put_together if split else tensors_of
    assert_same(all_of(run / last), all_of(whole / last))
    # Steps behind the checkpoint were made once more; the last word on each is what an undisturbed run says.
    losses = [{row["step"]: row["loss"] for row in log_of(place)} for place in (run, whole)]
    assert len(losses[1]) == STEPS and losses[0] == losses[1]
