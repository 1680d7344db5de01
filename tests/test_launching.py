from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch
from accelerate.commands.config import config_args

from vidssl import launching
from vidssl.launching import asked_processes, keep_to_cpu, relaunch_on_cpu


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


@pytest.mark.parametrize(
    ("command", "processes"),
    [
        ("accelerate launch --config_file {file} -m vidssl pretrain x", 3),
        ("accelerate launch --config-file={file} --cpu -m vidssl pretrain x", 3),
        ("accelerate launch --config_file {file} --num_processes 2 -m vidssl pretrain x", 2),
        ("accelerate launch --config_file {file} /venv/bin/vidssl pretrain x --num_processes 5", 3),
        ("accelerate launch --config_file {file}.no -m vidssl pretrain x", 1),
        ("accelerate launch -m vidssl pretrain x", 4),
        ("accelerate launch --cpu -m vidssl pretrain x", 1),
        ("vidssl pretrain --config_file {file}", 1),
    ],
)
def test_the_number_in_a_config_file(tmp_path, monkeypatch, command, processes):
    """accelerate reads the user's own file where none is named, but not after --cpu."""
    file, own = tmp_path / "cpu.yaml", tmp_path / "own.yaml"
    file.write_text("distributed_type: MULTI_CPU\nnum_processes: 3\nuse_cpu: true\n")
    own.write_text("distributed_type: MULTI_CPU\nnum_processes: 4\nuse_cpu: true\n")
    monkeypatch.setattr(config_args, "default_config_file", str(own))
    assert asked_processes(command.format(file=file).split()) == processes


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
    assert command == [sys.executable, "-m", "vidssl.launching", "2", "knn", "run"]
    assert environment["CUDA_VISIBLE_DEVICES"] == ""


def test_a_mistake_that_all_processes_meet_is_said_once(recipe, tmp_path):
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    for name in launching.RANK_VARIABLES:
        environment.pop(name, None)
    command = [sys.executable, "-m", "vidssl.launching", "2", "pretrain", str(recipe)]
    for mistakes in (["data.train=/nowhere"], ["train.stps=3", "train.lr=-1"]):
        done = subprocess.run(
            [*command, *mistakes], env=environment, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert len([line for line in lines if line.startswith("vidssl: ")]) == len(mistakes)
        assert "Traceback" not in done.stderr
        assert "ChildFailedError" not in done.stderr
        assert done.stdout == ""
    assert not (tmp_path / "run").exists()


def test_a_process_that_was_killed_is_named(tmp_path):
    """With torch's launcher silenced, nobody else would say it."""
    (tmp_path / "vidssl").mkdir()
    (tmp_path / "vidssl" / "__init__.py").touch()
    kill = "import os, time\nos.kill(os.getpid(), 9) if os.environ['RANK'] == '1' else time.sleep(60)"
    (tmp_path / "vidssl" / "__main__.py").write_text(kill)
    code = """if True:
        import os, sys
        from vidssl.launching import launch
        os.environ["PYTHONPATH"] = sys.argv[1]
        os.chdir(sys.argv[1])
        sys.exit(launch(2, []))
    """
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 128 + 9
    assert "vidssl: process 1 was ended by signal 9 (SIGKILL)" in done.stderr


def test_a_launcher_told_to_stop_says_what_its_processes_said(tmp_path):
    """It learns of the signal before its processes have ended, and would leave with a code of its own. What the first process
    says is torn."""
    (tmp_path / "vidssl").mkdir()
    (tmp_path / "vidssl" / "__init__.py").touch()
    wait = """if True:
        import json, os, pathlib, signal, sys, threading
        told = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: told.set())
        pathlib.Path(os.environ["RANK"]).touch()
        told.wait(100)
        message = {"message": "stopped after step 3", "code": 75, "extraInfo": {"timestamp": "0"}}
        said = json.dumps({"message": message})
        half = said[: len(said) // 2] if os.environ["RANK"] == "0" else said
        pathlib.Path(os.environ["TORCHELASTIC_ERROR_FILE"]).write_text(half)
        sys.exit(75)
    """
    (tmp_path / "vidssl" / "__main__.py").write_text(wait)
    code = """if True:
        import os, sys
        from vidssl.launching import launch
        os.environ["PYTHONPATH"] = sys.argv[1]
        os.chdir(sys.argv[1])
        sys.exit(launch(2, []))
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.PIPE, text=True
    ) as process:
        until = time.monotonic() + 120
        while not all((tmp_path / rank).exists() for rank in "01") and time.monotonic() < until:
            time.sleep(0.05)
        process.terminate()
        said = process.communicate(timeout=120)[1]
    assert process.returncode == 75
    assert said.count("vidssl: stopped after step 3") == 1


@pytest.mark.parametrize(
    ("processes", "said", "device", "then"),
    [
        ("2", None, None, "true"),
        ("1", None, None, None),
        ("2", "false", None, "false"),
        ("2", None, "cuda", None),
    ],
)
def test_processes_of_a_launcher_keep_to_the_cpu_where_there_is_nothing_else(
    monkeypatch, processes, said, device, then
):
    monkeypatch.setenv("WORLD_SIZE", processes)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "")  # so that it is put back
    monkeypatch.delenv("ACCELERATE_USE_CPU")
    if said is not None:
        monkeypatch.setenv("ACCELERATE_USE_CPU", said)
    found = None if device is None else torch.device(device)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda check_available: found)
    keep_to_cpu()
    assert os.environ.get("ACCELERATE_USE_CPU") == then
