from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.training import pretrain
from vidssl.training.lock import LOCK, FolderLock


def holder_of(folder: Path) -> int:
    """A process that holds the lock of a folder."""
    reads, writes = os.pipe()
    if (child := os.fork()) == 0:
        FolderLock(folder).take(create=True)
        os.write(writes, b".")
        signal.pause()
    os.read(reads, 1)
    return child


def test_a_second_run_in_a_folder_is_refused_until_the_first_is_dead(recipe, tmp_path):
    folder = tmp_path / "run"
    holder = holder_of(folder)
    try:
        with pytest.raises(
            VidsslError, match=rf"another run is writing to this folder \(host .*, process {holder}\)"
        ):
            pretrain(load_config(recipe))
        assert [path.name for path in folder.iterdir()] == [LOCK]
    finally:
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
    pretrain(load_config(recipe, ["train.steps=1"]))
    # A second start resumes what the first has begun; while that one holds the lock it is told so at once.
    lock = FolderLock(folder)
    lock.take()
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(VidsslError, match=f"process {os.getpid()}"):
        pretrain(load_config(recipe, ["train.steps=1"]), resume=True)
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    lock.release()
    pretrain(load_config(recipe, ["train.steps=1"]), resume=True)


def test_a_child_does_not_keep_the_lock_of_its_dead_parent(tmp_path):
    """Decoding workers are forked, and outlive a killed run for some seconds."""
    lock = FolderLock(tmp_path)
    lock.take(create=True)
    reads, writes = os.pipe()
    ready, says_ready = os.pipe()
    if (child := os.fork()) == 0:
        os.write(says_ready, b".")
        os.read(reads, 1)
        os._exit(0)
    os.read(ready, 1)
    # What remains of a parent that died: its descriptor closed, nothing released.
    assert lock._descriptor is not None
    os.close(lock._descriptor)
    try:
        FolderLock(tmp_path).take()
    finally:
        os.write(writes, b".")
        os.waitpid(child, 0)


def test_a_folder_that_vanished_is_noticed(tmp_path):
    folder = tmp_path / "run"
    lock = FolderLock(folder)
    lock.take(create=True)
    lock.check()
    folder.rename(tmp_path / "away")
    for there in (False, True):
        if there:
            folder.mkdir()
        with pytest.raises(VidsslError, match="vanished or was replaced"):
            lock.check()
    lock.release()
    assert (tmp_path / "away" / LOCK).read_text() == ""
