"""Checkpoints are written while the training goes on: of the step that they are of, whole or not at all, and none is lost."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import assert_same, log_of, tell_accelerate, tensors_of
from vidssl.config import load_config
from vidssl.errors import Stopped, VidsslError
from vidssl.files import checkpoints_of, damage, read_json
from vidssl.training import loop, pretrain
from vidssl.training.checkpoints.writer import Writer

WAIT = 60.0  # seconds, of a test that would otherwise hang


def test_the_training_goes_on_while_a_checkpoint_is_written(recipe, finished, monkeypatch):
    """The first of two is held up until a later step has been made, and is still that of its own step."""
    later, steps, save, step = threading.Event(), [], loop.save_checkpoint, loop.train_step

    def held_up(*arguments):
        assert threading.current_thread() is not threading.main_thread()
        assert later.wait(WAIT)
        return save(*arguments)

    def stepping(run, *arguments):
        logs = step(run, *arguments)
        steps.append(run.step)
        if run.step == 5:
            later.set()
        return logs

    monkeypatch.setattr(loop, "save_checkpoint", held_up)
    monkeypatch.setattr(loop, "train_step", stepping)
    run = pretrain(load_config(recipe))
    assert steps == [1, 2, 3, 4, 5, 6]
    for name in ("step_00000003", "step_00000006"):
        assert damage(run / "checkpoints" / name) is None
        assert_same(*(tensors_of(folder / "checkpoints" / name) for folder in (finished, run)))


def test_what_cannot_be_written_ends_the_run_at_the_next_step(recipe, monkeypatch):
    def full(*_):
        raise VidsslError("checkpoints/step_00000003: cannot be written: No space left on device")

    monkeypatch.setattr(loop, "save_checkpoint", full)
    config = load_config(recipe, ["train.steps=12"])
    with pytest.raises(VidsslError, match="No space left on device"):
        pretrain(config)
    assert len(log_of(Path(config.output))) <= 5
    assert not checkpoints_of(Path(config.output))


@pytest.mark.parametrize(
    ("place", "error", "said"),
    [
        (
            "take_snapshot",
            MemoryError(),
            "out of memory at the checkpoint of step 3: it is written from a copy",
        ),
        (
            "take_snapshot",
            RuntimeError("can't allocate memory: you tried"),
            "out of memory at the checkpoint",
        ),
        ("save_checkpoint", MemoryError(), "out of memory at the checkpoint"),
    ],
)
def test_too_little_memory_for_the_copy_is_one_line(recipe, monkeypatch, place, error, said):
    def full(*_):
        raise error

    monkeypatch.setattr(loop, place, full)
    with pytest.raises(VidsslError, match=said):
        pretrain(load_config(recipe))


def test_told_to_stop_a_run_waits_for_what_is_being_written_and_writes_its_own(recipe, finished, monkeypatch):
    """The disk is slow until the signal has come, two steps after the checkpoint."""
    told, save, step = threading.Event(), loop.save_checkpoint, loop.train_step

    def held_up(*arguments):
        assert told.wait(WAIT)
        return save(*arguments)

    def stepping(run, *arguments):
        logs = step(run, *arguments)
        if run.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
            told.set()
        return logs

    monkeypatch.setattr(loop, "save_checkpoint", held_up)
    monkeypatch.setattr(loop, "train_step", stepping)
    config = load_config(recipe)
    with pytest.raises(Stopped, match="stopped after step 5"):
        pretrain(config)
    run = Path(config.output)
    assert [folder.name for folder in checkpoints_of(run)] == ["step_00000005", "step_00000003"]
    assert all(damage(folder) is None for folder in checkpoints_of(run))
    assert read_json(run / "latest.json") == {"checkpoint": "checkpoints/step_00000005", "stopped": True}
    monkeypatch.undo()
    pretrain(load_config(recipe), resume=True)
    last = "checkpoints/step_00000006"
    assert_same(tensors_of(finished / last), tensors_of(run / last))


def test_an_error_of_the_training_waits_for_the_writer_and_stays(recipe, monkeypatch):
    began, save, step = threading.Event(), loop.save_checkpoint, loop.train_step

    def late(*arguments):
        assert began.wait(WAIT)
        return save(*arguments)

    def failing(run, *arguments):
        if run.step == 3:
            began.set()
            raise VidsslError("of the training")
        return step(run, *arguments)

    monkeypatch.setattr(loop, "save_checkpoint", late)
    monkeypatch.setattr(loop, "train_step", failing)
    config = load_config(recipe)
    with pytest.raises(VidsslError, match="of the training"):
        pretrain(config)
    [folder] = checkpoints_of(Path(config.output))
    assert folder.name == "step_00000003" and damage(folder) is None


def test_one_is_written_at_a_time_and_a_mistake_is_told_once():
    writer, order, first = Writer(), [], threading.Event()

    def slow() -> None:
        assert first.wait(WAIT)
        order.append("slow")

    writer.begin(slow)
    first.set()
    writer.begin(lambda: order.append("quick"))
    writer.finish()
    assert order == ["slow", "quick"] and not writer.failed

    def wrong() -> None:
        raise OSError(os.strerror(28))

    writer.begin(wrong)
    writer.close()
    assert writer.failed
    with pytest.raises(OSError, match="No space"):
        writer.begin(lambda: order.append("never"))
    writer.finish()
    assert order == ["slow", "quick"] and not writer.failed


def on_full_disk(recipe: str) -> tuple[str, int]:
    """A run on this process and the others whose second checkpoint finds no room, after a later step has been made: the error,
    and how many steps there were."""
    tell_accelerate()
    later, made = threading.Event(), [0]
    save, step = loop.save_checkpoint, loop.train_step

    def full(folder, snapshot, *arguments):
        if snapshot.record["step"] == 4:
            assert later.wait(WAIT)
            raise VidsslError("checkpoints/step_00000004: cannot be written: No space left on device")
        return save(folder, snapshot, *arguments)

    def stepping(run, *arguments):
        logs = step(run, *arguments)
        made[0] = run.step
        if run.step == 5:
            later.set()
        return logs

    loop.save_checkpoint, loop.train_step = full, stepping
    try:
        pretrain(load_config(recipe, ["train.steps=12", "train.checkpoint_every=2", "data.workers=0"]))
    except VidsslError as error:
        return str(error), made[0]
    finally:
        loop.save_checkpoint, loop.train_step = save, step
    return "no error", made[0]


def test_what_the_first_process_cannot_write_ends_the_run_on_all(recipe):
    """No process waits for one that has stopped, and the checkpoint before stays."""
    kept = run_on_processes(on_full_disk, 2, str(recipe), time_limit=240)
    for said, steps in kept:
        assert "No space left on device" in said and "\n" not in said
        assert 5 <= steps < 8
    [place] = checkpoints_of(Path(load_config(recipe).output))
    assert place.name == "step_00000002" and damage(place) is None
