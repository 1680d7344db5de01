"""Thin entry points, machine files and batch scripts: that they are what launchers and schedulers take."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MACHINES = sorted((ROOT / "configs" / "accelerate").glob("*.yaml"))
BATCH = sorted((ROOT / "scripts" / "slurm").glob("*.sbatch"))


@pytest.mark.parametrize("file", MACHINES, ids=lambda file: file.stem)
def test_accelerate_reads_the_machine_files(file: Path) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(file))
    assert config.num_processes == {"cpu2": 2, "gpu1": 1, "gpu8": 8, "fsdp8": 8, "nodes4x8": 32}[file.stem]
    assert config.use_cpu == (file.stem == "cpu2")


@pytest.mark.parametrize("file", BATCH, ids=lambda file: file.stem)
def test_the_batch_scripts_are_shell(file: Path) -> None:
    assert subprocess.run(["bash", "-n", str(file)], check=False).returncode == 0


@pytest.mark.parametrize(("code", "again"), [(75, True), (0, False), (2, False)])
def test_a_run_that_was_told_to_stop_is_queued_again(tmp_path: Path, code: int, again: bool) -> None:
    """With a scheduler that is made of shell scripts."""
    (tmp_path / "scontrol").write_text(
        '#!/bin/bash\n[ "$1" = show ] && echo one || echo "$@" > "$PLACE/queued"\n'
    )
    (tmp_path / "srun").write_text(
        '#!/bin/bash\nshift; SLURM_PROCID=9 SLURM_LOCALID=1 SLURM_NTASKS=16 "$@"\n'
    )
    asks = 'printf "%s\\n" "$RANK $LOCAL_RANK $WORLD_SIZE $MASTER_ADDR" "$@" > "$PLACE/asked"'
    (tmp_path / "python").write_text(f"#!/bin/bash\n{asks}; exit {code}\n")
    for file in tmp_path.iterdir():
        file.chmod(0o755)
    variables = {"SLURM_JOB_NODELIST": "one,two", "SLURM_JOB_ID": "7", "PLACE": str(tmp_path)}
    place = {**os.environ, **variables, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", str(ROOT / "scripts/slurm/pretrain.sbatch"), "hsic", "output=runs/a b"]
    assert subprocess.run(command, env=place, check=False, capture_output=True).returncode == code
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == ["9 1 16 one", "scripts/pretrain.py", "hsic", "output=runs/a b", "--resume"]
    assert (tmp_path / "queued").exists() == again


@pytest.mark.slow
def test_the_entry_points_run_in_two_processes(recipe: Path, sprites: Path, tmp_path: Path) -> None:
    def launch(script: str, *arguments: object) -> str:
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
        done = subprocess.run(
            [*command, str(ROOT / "scripts" / script), *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "starting 2 processes" in done.stderr
        return done.stdout

    launch("pretrain.py", recipe)
    run, train, val = tmp_path / "run", sprites / "train", sprites / "val"
    assert "trained" in launch("zero_shot.py", run, val, "--workers", 0)
    assert "trained" in launch("linear_probe.py", run, train, val, "--workers", 0)
    launch("evaluate_all.py", run, sprites, "--workers", 0, "--output", tmp_path / "all.json")
    rows = json.loads((tmp_path / "all.json").read_text())["rows"]
    assert {row["protocol"].partition(",")[0] for row in rows} == {"zero-shot", "knn", "linear-probe"}
