from __future__ import annotations

import signal
import subprocess
import sys
import time

from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.training import pretrain


def test_sigterm_saves_and_the_rest_is_bit_identical(recipe, trained, tmp_path):
    stopped = tmp_path / "stopped"
    command = [
        sys.executable,
        "-m",
        "vidssl",
        "pretrain",
        str(recipe),
        f"output={stopped}",
        "train.checkpoint_every=100",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (stopped / "log.jsonl").is_file() or not (stopped / "log.jsonl").read_text():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 0
    pretrain(load_config(recipe, [f"output={stopped}", "train.checkpoint_every=100"]), resume=True)
    assert_same(weights_of(trained), weights_of(stopped))
