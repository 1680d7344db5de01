from __future__ import annotations

import subprocess
import time

import pytest

from vidssl.data.manifest import probe as probing
from vidssl.data.manifest.check import check_index
from vidssl.data.manifest.manifest import VideoIndex


def test_stopping_early_leaves_no_process(index: VideoIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    original = probing._Prober._start

    def recording(self: probing._Prober) -> subprocess.Popen[bytes]:
        started.append(original(self))
        return started[-1]

    monkeypatch.setattr(probing._Prober, "_start", recording)
    outcomes = probing.probe_all([index.path(i) for i in range(6)] * 5, workers=2, timeout=60)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert started
    time.sleep(0.1)
    assert None not in [process.poll() for process in started]


def test_a_worker_that_cannot_start_is_no_fault_of_the_files(
    index: VideoIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing._Prober, "module", "tests.data.manifest.no_such_module")
    with pytest.raises(RuntimeError, match="no process can be started"):
        check_index(index)
