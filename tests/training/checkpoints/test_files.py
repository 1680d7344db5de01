from __future__ import annotations

import resource
import shutil
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch.nn import functional

from tests.training.small_runs import assert_same, log_of, tensors_of, weights_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.files import checkpoints_of, damage, read_json
from vidssl.training import loop, pretrain, setup
from vidssl.training.checkpoints.files import load_checkpoint, save_checkpoint, take_snapshot
from vidssl.training.folder import claim_folder
from vidssl.training.lock import FolderLock

LAST = "checkpoints/step_00000006"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    return copy


def resume(run: Path, *overrides: str) -> None:
    pretrain(load_config(run / "config.yaml", [f"output={run}", *overrides]), resume=True)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-3])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 16
    file.write_bytes(content)


def test_resumed_run_equals_one_never_stopped(run, finished):
    # What a kill between steps 3 and 6 leaves: the log runs ahead of the last complete checkpoint.
    shutil.rmtree(run / LAST)
    (run / "checkpoints" / ".step_00000006.partial").mkdir()
    (run / ".latest.json.7.partial").touch()
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    resume(run)
    assert_same(weights_of(finished), weights_of(run))
    assert [line["loss"] for line in log_of(run)] == [line["loss"] for line in log_of(finished)]
    assert not list(run.rglob(".*"))


def test_resumed_concept_run_equals_one_never_stopped(overrides, tmp_path):
    """With the running statistics of the priors and of the monitors."""
    whole = pretrain(load_config("lss_small", overrides("lss_small")))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints/step_00000004")
    pretrain(load_config("lss_small", [*overrides("lss_small"), f"output={resumed}"]), resume=True)
    ends = [tensors_of(run / "checkpoints/step_00000004") for run in (whole, resumed)]
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
    assert [line["loss"] for line in log_of(whole)] == [line["loss"] for line in log_of(resumed)]
    # And they are statistics: the centre of step 2 is not that of step 4.
    centre = "objective.safetensors:objectives.concept.priors.category.mean"
    halfway = tensors_of(whole / "checkpoints/step_00000002")
    assert (ends[0][centre] - halfway[centre]).abs().max() > 0
    assert (
        int(ends[0]["objective.safetensors:objectives.concept.priors.category.steps"]) == 5
    )  # with the warm start


def test_lars_resumes_to_the_last_bit_and_not_with_the_state_of_adamw(recipe, finished, tmp_path):
    lars = ["train.optimizer=lars", "train.lr=1.0", "train.weight_decay=1e-6", f"output={tmp_path / 'lars'}"]
    whole = pretrain(load_config(recipe, lars))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / LAST)
    resume(resumed)
    assert_same(weights_of(whole), weights_of(resumed))
    shutil.rmtree(resumed / LAST)
    config = load_config(resumed / "config.yaml", [f"output={resumed}", "train.optimizer=adamw"])
    with pytest.raises(VidsslError, match=r"another optimiser \(momentum_buffer\)"):
        pretrain(config, resume=True, accept_changes=True)


def test_dropout_resumes_to_the_last_bit(recipe, finished, tmp_path, monkeypatch):
    """As stochastic depth does: with draws of torch's own generators."""
    build = setup.build_student

    def with_dropout(config):
        student, objective = build(config)
        student.encoder.visual.ln_pre.register_forward_hook(
            lambda module, _, output: functional.dropout(output, 0.5, module.training)
        )
        return student, objective

    monkeypatch.setattr(setup, "build_student", with_dropout)
    whole = pretrain(load_config(recipe))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / LAST)
    resume(resumed)
    assert_same(weights_of(whole), weights_of(resumed))
    name = "encoder/model.safetensors:visual.conv1.weight"
    assert not torch.equal(weights_of(whole)[name], weights_of(finished)[name])


def test_every_process_gets_its_own_generators_back(recipe, monkeypatch):
    made = setup.set_up(load_config(recipe), Accelerator(cpu=True))
    states = [{"cpu": torch.Generator().manual_seed(seed).get_state()} for seed in (1, 2)]
    folder = save_checkpoint(made.folder, take_snapshot(made, states), keep=1)
    monkeypatch.setattr("vidssl.training.checkpoints.files.rank", lambda: 1)
    load_checkpoint(folder, made)
    assert torch.equal(torch.get_rng_state(), states[1]["cpu"])
    made.close()


@pytest.mark.parametrize("harm", [cut, flip, Path.unlink])
@pytest.mark.parametrize(
    "name", ["optimizer.safetensors", "encoder/model.safetensors", "state.json", "checksums.json"]
)
def test_every_damage_is_recognised(run, name, harm):
    harm(run / LAST / name)
    claim = claim_folder(run, True, FolderLock(run))
    assert claim.checkpoint == run / "checkpoints" / "step_00000003"
    assert "step_00000006: damaged: " in claim.notes[0]
    # Of a flipped bit in a list of checksums nobody can say whether it is the list or the file that is wrong.
    assert name in claim.notes[0] or (name, harm) == ("checksums.json", flip)


def test_a_damaged_checkpoint_is_passed_over_in_words(run, finished, capsys):
    flip(run / LAST / "optimizer.safetensors")
    resume(run)
    said = capsys.readouterr().out
    assert (
        "step_00000006: damaged: the content of optimizer.safetensors is not what was written; not used"
        in said
    )
    assert "going on from step_00000003, the newest whole checkpoint" in said
    assert damage(run / LAST) is None
    assert_same(weights_of(finished), weights_of(run))


def test_a_lost_pointer_never_starts_anew(run, finished, capsys):
    (run / "latest.json").unlink()
    resume(run)
    assert "latest.json is lost; going on from step_00000006, the newest whole" in capsys.readouterr().out
    assert read_json(run / "latest.json")["checkpoint"] == LAST
    (run / "latest.json").write_text("{")  # torn: it is only for people and scripts
    resume(run)
    assert_same(weights_of(finished), weights_of(run))


def test_without_a_whole_checkpoint_nothing_starts_anew(run):
    for checkpoint in checkpoints_of(run):
        cut(checkpoint / "student.safetensors")
    with pytest.raises(VidsslError, match=r"step_00000006: damaged: .*no whole checkpoint is left"):
        resume(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(
        VidsslError, match=r"latest.json names a checkpoint, but .* no whole checkpoint is left"
    ):
        resume(run)


def test_a_run_killed_before_its_first_checkpoint_begins_again_in_words(run, finished, capsys):
    shutil.rmtree(run / "checkpoints")
    (run / "latest.json").unlink()
    resume(run)
    assert "stopped before its first checkpoint; beginning again at step 0" in capsys.readouterr().out
    assert_same(weights_of(finished), weights_of(run))


@pytest.mark.parametrize("where", ["write", "flush"])
def test_a_full_disk_ends_in_one_line_and_leaves_the_last_checkpoint(run, monkeypatch, where):
    shutil.rmtree(run / LAST)
    save = loop.save_checkpoint

    def on_full_disk(*arguments):
        def full(*_, **__):
            raise (
                SafetensorError("I/O error: No space left on device (os error 28)")
                if where == "write"
                else OSError(28, "No space left on device")
            )

        with pytest.MonkeyPatch.context() as patch:
            place = {
                "write": "safetensors.torch.save_file",
                "flush": "os.fsync",
                "checksums": "vidssl.files._sha256",
            }
            patch.setattr(place[where], full)
            return save(*arguments)

    monkeypatch.setattr(loop, "save_checkpoint", on_full_disk)
    with pytest.raises(
        VidsslError, match=r"cannot be written: .*No space left on device.* last checkpoint is step_00000003"
    ):
        resume(run)
    assert damage(run / "checkpoints" / "step_00000003") is None
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000003"]
    monkeypatch.undo()
    resume(run)
    assert damage(run / LAST) is None


def test_a_log_that_cannot_be_written_ends_in_one_line(run, monkeypatch):
    shutil.rmtree(run / LAST)
    (run / "log.jsonl").unlink()
    (run / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(VidsslError, match=r"log\.jsonl: cannot be written: No space left on device"):
        resume(run)


def test_a_folder_that_vanished_is_not_made_again(run, tmp_path, monkeypatch):
    shutil.rmtree(run / LAST)
    step = loop.train_step

    def vanish(*arguments):
        if run.exists():
            run.rename(tmp_path / "away")
        return step(*arguments)

    monkeypatch.setattr(loop, "train_step", vanish)
    with pytest.raises(VidsslError, match="the run folder has vanished or was replaced"):
        resume(run)
    assert not run.exists()
    assert damage(tmp_path / "away" / "checkpoints" / "step_00000003") is None


def test_a_limit_on_the_size_of_files_is_a_full_disk(run):
    shutil.rmtree(run / LAST)
    size = (run / "checkpoints/step_00000003/optimizer.safetensors").stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, limits[1]))
    try:
        with pytest.raises(VidsslError, match=r"File too large.*; the last checkpoint is step_00000003"):
            resume(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["step_00000003"]
    assert damage(run / "checkpoints" / "step_00000003") is None
