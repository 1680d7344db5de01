"""Runs that are told to stop do so after a checkpoint, say it, and go on from there as if nothing had been."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.errors import Stopped, VidsslError
from vidssl.files import read_json
from vidssl.training import loop, pretrain
from vidssl.training.stop import stop_on_signal

ONLY_WHEN_ASKED = "train.checkpoint_every=100"


def start(run: Path, *launcher: str, workers: int = 2) -> subprocess.Popen[str]:
    """A run in a process group of its own, once it has logged a step."""
    recipe = run.parent / "recipe.yaml"
    process = subprocess.Popen(
        [sys.executable, *launcher, "-m", "vidssl", "pretrain", str(recipe), f"output={run}", f"data.workers={workers}",
         ONLY_WHEN_ASKED],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "ACCELERATE_USE_CPU": "1"},
    )  # fmt: skip
    deadline = time.monotonic() + 120
    while not (run / "log.jsonl").is_file() or not (run / "log.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    return process


def end(process: subprocess.Popen[str]) -> str:
    """What it printed, when all of its group is gone."""
    out, _ = process.communicate(timeout=120)
    deadline = time.monotonic() + 20
    with suppress(ProcessLookupError):
        while True:
            os.killpg(process.pid, 0)
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return out


def test_sigterm_to_the_group_saves_and_the_rest_is_bit_identical(recipe, finished, tmp_path):
    run = tmp_path / "run"
    process = start(run)
    os.killpg(process.pid, signal.SIGTERM)  # its decoding workers too
    out = end(process)
    assert process.returncode == 75, out
    assert "vidssl: stopped after step " in out and "Traceback" not in out
    assert read_json(run / "latest.json")["stopped"] is True
    pretrain(load_config(recipe, [f"output={run}", ONLY_WHEN_ASKED]), resume=True)
    assert read_json(run / "latest.json")["stopped"] is False
    assert_same(weights_of(finished), weights_of(run))


@pytest.mark.slow
def test_sigterm_to_a_launcher_and_its_processes_saves(recipe, tmp_path):
    run = tmp_path / "run"
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = start(run, *launcher, workers=1)
    os.killpg(process.pid, signal.SIGTERM)
    out = end(process)
    assert process.returncode != 0
    assert out.count("vidssl: stopped after step ") == 1
    assert read_json(run / "latest.json")["stopped"] is True


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_every_signal_stops_after_the_step_at_hand(finished, tmp_path, monkeypatch, name):
    run, step = tmp_path / "run", loop.train_step

    def signalled(*arguments):
        if arguments[0].step == 3:
            os.kill(os.getpid(), signal.Signals[name])
        return step(*arguments)

    before = signal.getsignal(signal.Signals[name])
    monkeypatch.setattr(loop, "train_step", signalled)
    with pytest.raises(
        Stopped, match=rf"stopped after step 4, \d\.\d s after {name}; continue with .*config.yaml"
    ):
        pretrain(load_config(finished.parent / "recipe.yaml", [f"output={run}"]))
    assert read_json(run / "latest.json") == {"checkpoint": "checkpoints/step_00000004", "stopped": True}
    assert signal.getsignal(signal.Signals[name]) == before


def test_before_the_first_step_there_is_nothing_to_save(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "vidssl.training.setup.read_videos", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or time.sleep(60)
    )
    with pytest.raises(
        Stopped, match="stopped before the first step by SIGTERM; nothing is begun, start the run again"
    ):
        pretrain(load_config(recipe))
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_begun_is_resumed_though_it_has_made_no_step(recipe, tmp_path, finished, monkeypatch):
    """What it says to do then has to work: its folder is there, and would be refused without --resume."""
    monkeypatch.setattr("vidssl.training.loop.Report", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(
        Stopped, match=r"before the first step by SIGTERM; continue with .*config\.yaml --resume"
    ):
        pretrain(load_config(recipe))
    monkeypatch.undo()
    with pytest.raises(VidsslError, match="continue it with --resume"):
        pretrain(load_config(recipe))
    run = pretrain(load_config(tmp_path / "run" / "config.yaml"), resume=True)
    assert_same(weights_of(finished), weights_of(run))


def test_a_second_sigint_ends_at_once():
    accelerator = SimpleNamespace(is_main_process=False)
    if (child := os.fork()) == 0:
        with stop_on_signal(accelerator):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(20)
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT


def test_a_thread_can_train(finished, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "checkpoints" / "step_00000006")
    config = load_config(copy / "config.yaml", [f"output={copy}"])
    thread = threading.Thread(target=pretrain, args=(config, True))
    thread.start()
    thread.join(timeout=120)
    assert_same(weights_of(finished), weights_of(copy))


def test_while_libraries_load_there_is_nothing_to_save_either(recipe, tmp_path):
    """Loading takes seconds; a batch system that stops a job then is to see the same exit code."""
    fake = tmp_path / "fake" / "accelerate.py"
    fake.parent.mkdir()
    fake.write_text(
        "import os, signal, time\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
        "except Exception:\n"
        "    pass\n"
    )
    paths = os.pathsep.join([str(fake.parent), *(path or str(Path.cwd()) for path in sys.path)])
    result = subprocess.run(
        [sys.executable, "-m", "vidssl", "pretrain", str(recipe)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert (result.returncode, result.stderr) == (
        75,
        "vidssl: stopped before the run began; start it again\n",
    )
    assert not (tmp_path / "run").exists()
