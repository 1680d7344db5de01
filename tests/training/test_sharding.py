"""A run that is split over two processes against the same run with whole weights on two, and against itself resumed."""

from __future__ import annotations

import json
import os
import shutil
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter
from torch.distributed.tensor import DTensor

import vidssl
from tests.distributed_runner import run_on_processes
from tests.training.small_runs import assert_same, log_of, put_together, tell_accelerate, tensors_of
from vidssl import training
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.files import damage, read_json
from vidssl.models.weights import read_state, read_tensors
from vidssl.runs import load_run
from vidssl.training import loop, pretrain, sharding
from vidssl.training.accelerator import as_launched
from vidssl.training.checkpoints import files
from vidssl.training.checkpoints.shards import shapes

# A loss that amplifies no rounding.
RECIPE = [
    "objective={spectral: {projector: [32, 16]}}",
    "train.steps=5",
    "train.checkpoint_every=3",
    "train.keep_checkpoints=9",
    "train.lr=1e-3",
    "teacher.momentum=0.9",
]
# With a part that is frozen, and in pieces whose activations are computed again.
FROZEN = ["model.freeze=projection", "train.accumulation=2", "model.options={activation_checkpointing: true}"]
LAST = "checkpoints/step_00000005"


def trained(recipe: str, overrides: list[str], resume: bool = False) -> dict[str, Any]:
    """A run on this process and the others; what is in parts, and how much of it is here."""
    tell_accelerate()
    kept: dict[str, Any] = {}
    train = training.train

    def looked_at(run):
        folder = train(run)
        for name, module in (("student", run.student), ("teacher", run.averaged)):
            parts = [p for p in module.parameters() if isinstance(p, DTensor)]
            kept[name] = (len(parts), sum(p.to_local().numel() for p in parts), sum(p.numel() for p in parts))
            kept[f"{name}_whole"] = sum(p.numel() for p in module.parameters() if not isinstance(p, DTensor))
        moments = [x for state in run.optimizer.state.values() for x in state.values() if x.ndim]
        kept["moments"] = sum(isinstance(x, DTensor) for x in moments), len(moments)
        return folder

    training.train = looked_at
    try:
        with warnings.catch_warnings(record=True) as warned:
            pretrain(load_config(recipe, overrides), resume=resume)
    finally:
        training.train = train
    kept["warned"] = [str(warning.message) for warning in warned]
    return kept


def held_up(recipe: str, overrides: list[str]) -> list[tuple[int, int]]:
    """A run on this process and the others, whose first checkpoint is held up until a step after it is made; at each beginning of a
    part of a checkpoint, of which step it is and how many have been made."""
    later, write, step = threading.Event(), files.write_shards, loop.train_step
    seen, made = list[tuple[int, int]](), [0]

    def waiting(folder, *arguments):
        assert threading.current_thread() is not threading.main_thread()
        assert later.wait(60)
        seen.append((int(folder.parent.name.split("_")[1].split(".")[0]), made[0]))
        write(folder, *arguments)

    def stepping(run, *arguments):
        logs = step(run, *arguments)
        made[0] = run.step
        if run.step == 4:
            later.set()
        return logs

    files.write_shards, loop.train_step = waiting, stepping
    try:
        trained(recipe, overrides)
    finally:
        files.write_shards, loop.train_step = write, step
    return seen


def on_full_disk(recipe: str, overrides: list[str]) -> str:
    """Of a run in which the second process finds no room for its part of the second checkpoint, the error."""
    write = HuggingFaceStorageWriter.write_data

    def full(self, *arguments):
        if dist.get_rank() == 1 and "step_00000005" in str(self.path):
            raise OSError(28, os.strerror(28))
        return write(self, *arguments)

    HuggingFaceStorageWriter.write_data = full
    try:
        trained(recipe, overrides)
    except VidsslError as error:
        return str(error)
    finally:
        HuggingFaceStorageWriter.write_data = write
    return "no error"


def all_trained(recipe: str, folder: str, more: list[str], disturbed: bool) -> list[Any]:
    kept = [trained(recipe, [*RECIPE, *more, f"output={folder}/whole"])]
    shard = [*RECIPE, *more, "train.shard=true"]
    kept.append(trained(recipe, [*shard, f"output={folder}/split"]))
    if dist.get_rank() == 0:
        shutil.copytree(f"{folder}/split", f"{folder}/resumed")
        shutil.rmtree(f"{folder}/resumed/{LAST}")
    dist.barrier()
    trained(recipe, [*shard, f"output={folder}/resumed"], resume=True)
    if disturbed:
        kept.append(held_up(recipe, [*shard, f"output={folder}/held_up"]))
        kept.append(on_full_disk(recipe, [*shard, f"output={folder}/full"]))
    return kept


@pytest.fixture(
    scope="module",
    params=[
        "all",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("frozen in pieces", "disturbed")),
    ],
)
def runs(request, tmp_path_factory, sprites, tiny_clip):
    from tests.conftest import write_recipe

    folder = tmp_path_factory.mktemp("split")
    recipe = write_recipe(folder, sprites, tiny_clip)
    watched = [f"evaluate={{train: {sprites}/train, val: {sprites}/val, every: 3, k: 3}}"]
    more = [*FROZEN, *watched] if request.param == "frozen in pieces" else []
    return folder, run_on_processes(
        all_trained, 2, str(recipe), str(folder), more, request.param == "disturbed", time_limit=600
    )


def test_losses_and_weights_are_those_of_whole_weights(runs):
    folder, _ = runs
    whole, split = folder / "whole", folder / "split"
    for ours, reference in zip(log_of(split), log_of(whole), strict=True):
        for key in ("loss", "grad_norm", "features/rankme"):
            assert ours[key] == pytest.approx(reference[key], rel=1e-5, abs=1e-5), (ours["step"], key)
    for weights in ("student", "teacher"):
        ours, reference = (load_run(run, weights=weights).student.state_dict() for run in (split, whole))
        assert ours.keys() == reference.keys()
        for name, tensor in ours.items():
            torch.testing.assert_close(tensor, reference[name], rtol=1e-5, atol=1e-5, msg=name)
    start, end = (tensors_of(split / place) for place in ("initial", f"{LAST}/encoder"))
    assert not torch.equal(
        start["model.safetensors:visual.conv1.weight"], end["model.safetensors:visual.conv1.weight"]
    )
    ours, reference = (read_state(run / LAST / "optimizer.safetensors") for run in (split, whole))
    assert ours.keys() == reference.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, reference[name], rtol=1e-3, atol=1e-6, msg=name)


def test_every_process_holds_a_half(runs):
    _, kept = runs
    for plain, split, *_ in kept:
        assert plain["student"] == (0, 0, 0) == plain["teacher"]
        for name in ("student", "teacher"):
            parts, here, everywhere = split[name]
            assert parts > 20
            assert here == pytest.approx(everywhere / 2, rel=0.05)
        assert not [said for said in split["warned"] if "view tensor" in said]
        assert split["moments"][0] == split["moments"][1] > 40
        assert split["student_whole"] == split["teacher_whole"] < 0.05 * split["student"][2]
    for name in ("student", "teacher"):
        here, there = (process[1][name] for process in kept)
        assert here[1] + there[1] == here[2]


def test_a_resumed_split_run_equals_one_never_stopped(runs):
    folder, _ = runs
    assert_same(put_together(folder / "split" / LAST), put_together(folder / "resumed" / LAST))
    losses = [[line["loss"] for line in log_of(folder / name)] for name in ("split", "resumed")]
    assert losses[0] == losses[1]


def test_a_split_run_goes_on_while_all_of_its_processes_write(runs):
    folder, kept = runs
    if not (folder / "held_up").is_dir():
        pytest.skip("these runs were not held up")
    for seen in (process[2] for process in kept):
        assert [step for step, _ in seen[:4]] == [3] * 4
        assert all(made >= 4 for _, made in seen[:4])
        assert seen[4:] == [(5, 5)] * 4
    for name in ("step_00000003", "step_00000005"):
        ours, theirs = (folder / run / "checkpoints" / name for run in ("held_up", "split"))
        assert damage(ours) is None
        assert_same(put_together(ours), put_together(theirs))


def test_a_process_without_room_ends_the_run_on_all_in_one_line(runs):
    folder, kept = runs
    if not (folder / "full").is_dir():
        pytest.skip("no disk was full here")
    for said in (process[3] for process in kept):
        assert "cannot be written" in said and "No space left on device" in said
        assert "\n" not in said and said.endswith("the last checkpoint is step_00000003")
    assert [path.name for path in (folder / "full/checkpoints").iterdir()] == ["step_00000003"]
    assert damage(folder / "full/checkpoints/step_00000003") is None


def test_evaluation_while_training_keeps_a_whole_encoder(runs):
    folder, _ = runs
    if not (folder / "whole/best").is_dir():
        pytest.skip("these runs were not evaluated")
    scores = [read_json(folder / name / "best.json") for name in ("whole", "split", "resumed")]
    assert scores[0] == scores[1]
    whole, split = (tensors_of(folder / name / "best") for name in ("whole", "split"))
    assert whole.keys() == split.keys()
    for name, tensor in split.items():
        torch.testing.assert_close(tensor, whole[name], rtol=1e-5, atol=1e-5, msg=name)


def test_its_checkpoint_is_files_of_processes_and_a_whole_encoder(runs):
    folder, _ = runs
    checkpoint = folder / "split" / LAST
    assert {file.suffix for file in checkpoint.rglob("*") if file.is_file()} == {".safetensors", ".json"}
    for name in ("student", "teacher_encoder", "teacher_heads", "optimizer"):
        assert len(list((checkpoint / name).iterdir())) == 2
    assert len(json.loads((checkpoint / "checksums.json").read_text())) == 8 + 5  # of processes, and whole
    encoder = vidssl.load(folder / "split")
    clips = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(
        encoder(clips).clip, vidssl.load(folder / "whole")(clips).clip, rtol=1e-4, atol=1e-5
    )
    parts = read_state(checkpoint / "teacher_encoder.safetensors")
    whole = read_tensors(checkpoint / "encoder/model.safetensors")
    assert_same(parts, whole)


def test_one_process_goes_on_from_the_parts_of_two(runs, tmp_path):
    folder, _ = runs
    shutil.copytree(folder / "split", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / LAST)
    config = load_config(tmp_path / "run/config.yaml", [f"output={tmp_path / 'run'}"])
    pretrain(config, resume=True, accept_changes=True)
    ours, reference = (load_run(run).student.state_dict() for run in (tmp_path / "run", folder / "split"))
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, reference[name], rtol=1e-5, atol=1e-5, msg=name)


def test_lars_wants_whole_weights(recipe, monkeypatch):
    monkeypatch.setattr(sharding, "is_distributed", lambda: True)
    train = load_config(recipe, ["train.shard=true", "train.optimizer=lars", "train.weight_decay=1e-6"]).train
    with pytest.raises(VidsslError, match=r"train\.shard: not with train\.optimizer=lars"):
        sharding.is_split(train)


def test_a_file_of_a_process_that_is_lost_is_an_error(runs, tmp_path):
    folder, _ = runs
    shutil.copytree(folder / "split" / LAST / "student", tmp_path / "student")
    next((tmp_path / "student").iterdir()).write_bytes(b"torn")
    with pytest.raises(VidsslError, match="cannot be read"):
        read_state(tmp_path / "student.safetensors")
    with pytest.raises(
        VidsslError, match=r"no such folder; a run with train\.shard goes on from checkpoints"
    ):
        shapes(folder / "whole" / LAST / "student")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"FSDP_VERSION": "1"}, "FSDP 1 is not supported; set fsdp_version: 2"),
        ({"FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"}, "fsdp_offload_params is not supported"),
        (
            {"FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "options.activation_checkpointing=true",
        ),
        ({"FSDP_VERSION": "2"}, None),
    ],
)
def test_accelerates_word_for_it_is_understood(recipe: Path, monkeypatch, variables, said):
    config = load_config(recipe)
    assert as_launched(config) is config
    for name, value in {"ACCELERATE_USE_FSDP": "true", **variables}.items():
        monkeypatch.setenv(name, value)
    if said is None:
        assert as_launched(config).train.shard
        assert "ACCELERATE_USE_FSDP" not in os.environ
        monkeypatch.setenv("ACCELERATE_USE_FSDP", "false")
    else:
        with pytest.raises(VidsslError, match=said):
            as_launched(config)
