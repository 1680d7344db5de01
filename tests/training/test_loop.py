"""Whole runs: what they leave, and what must not change their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

import vidssl
from tests.training.small_runs import SIZES, assert_same, launch, log_of, tensors_of, train_on_cpu, weights_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.objectives.ldm.objective import LDM
from vidssl.training import pretrain
from vidssl.training.loop import train
from vidssl.training.setup import set_up

LDM_RECIPE = [
    "objective={ldm: {projector: [16, 4], lr_multiplier: 1.0}}",
    "views.0.frames=8",
    "train.steps=2",
]


def test_a_run_leaves_what_it_promises(trained):
    assert {"config.yaml", "environment.json", "log.jsonl", "latest.json", "checkpoints", "initial"} <= {
        path.name for path in trained.iterdir()
    }
    assert [folder.name for folder in sorted((trained / "checkpoints").iterdir())] == [
        "step_00000003",
        "step_00000006",
    ]
    log = log_of(trained)
    assert [line["step"] for line in log] == [1, 2, 3, 4, 5, 6]
    assert all({"loss", "clips_per_second", "data_wait", "lr", "hsic/hsic_xy"} <= line.keys() for line in log)
    assert not list(trained.rglob("*.partial")) and not list(trained.rglob("*.pt")) + list(
        trained.rglob("*.pkl")
    )
    before, after = vidssl.load(trained / "initial"), vidssl.load(trained)
    clips = torch.randn(2, 3, 4, 32, 32)
    assert not torch.equal(before(clips).clip, after(clips).clip)
    assert after.spec["sampling"]["frames"] == 4
    assert load_config(trained / "config.yaml") == load_config(trained.parent / "recipe.yaml")


def test_a_second_stage_starts_from_a_run(recipe, trained, tmp_path):
    options = [f"model.pretrained={trained}", "train.steps=2", f"output={tmp_path / 'second'}"]
    second = pretrain(load_config(recipe, options))
    first, start = vidssl.load(trained).state_dict(), vidssl.load(second / "initial").state_dict()
    assert all(torch.equal(first[key], start[key]) for key in first)
    assert not torch.equal(vidssl.load(second).state_dict()["visual.proj"], start["visual.proj"])


def test_micro_batches_give_the_whole_batchs_losses(recipe, trained, tmp_path):
    pieces = pretrain(load_config(recipe, ["train.accumulation=4", f"output={tmp_path / 'pieces'}"]))
    for ours, reference in zip(log_of(pieces), log_of(trained), strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], abs=1e-5)


def test_worker_count_changes_nothing(recipe, trained, tmp_path):
    workers = pretrain(load_config(recipe, ["data.workers=2", f"output={tmp_path / 'workers'}"]))
    assert_same(weights_of(trained), weights_of(workers))


def test_two_processes_have_the_losses_of_one(recipe, trained, tmp_path):
    run = tmp_path / "two"
    done = launch(["pretrain", str(recipe), f"output={run}"], processes=2)
    assert done.returncode == 0, done.stderr
    assert json.loads((run / "environment.json").read_text())["processes"] == 2
    one = train_on_cpu(recipe, tmp_path / "one") if torch.cuda.is_available() else trained
    ours, reference = log_of(run), log_of(one)
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)


DROPPING = [
    "model.temporal=joint",
    "model.options={token_drop: 0.5, causal: true}",
    "objective={spectral: {projector: [32, 16]}}",
    "train.steps=4",
]


def test_dropped_tokens_are_drawn_anew_for_every_step_and_as_before_after_a_resume(recipe, tmp_path):
    whole = pretrain(
        load_config(recipe, [*DROPPING, "teacher.token_drop=true", f"output={tmp_path / 'whole'}"])
    )
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints/step_00000004")
    pretrain(load_config(resumed / "config.yaml", [f"output={resumed}"]), resume=True)
    assert_same(weights_of(whole), weights_of(resumed))
    pieces = pretrain(
        load_config(recipe, [*DROPPING, "train.accumulation=4", f"output={tmp_path / 'pieces'}"])
    )
    for ours, reference in zip(log_of(pieces), log_of(whole), strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], abs=1e-5)
    clips = torch.randn(2, 3, 4, 32, 32)
    encoder = vidssl.load(whole)
    assert encoder.token_drop == 0.5
    assert torch.equal(encoder(clips).clip, encoder(clips.clone()).clip)  # all tokens, in evaluation
    with pytest.raises(VidsslError, match=r"has no effect without model\.options\.token_drop"):
        set_up(load_config(recipe, ["teacher.token_drop=true"]), Accelerator(cpu=True))


def test_a_teacher_leaves_tokens_out_unless_it_is_told_not_to_or_is_frozen(recipe, tmp_path):
    def loss(name: str, *teacher: str) -> float:
        options = [*DROPPING[:2], *teacher, f"output={tmp_path / name}"]
        options += ["train.steps=1", "objective={ressl: {projector: [32, 16], queue_size: 16}}"]
        return log_of(pretrain(load_config(recipe, options)))[0]["loss"]

    said = {drops: loss(drops, f"teacher.token_drop={drops}") for drops in ("false", "true")}
    assert said["false"] != said["true"]
    assert loss("moving") == said["true"]
    assert (
        loss("frozen", "teacher.momentum=1.0") == said["false"]
    )  # of the first step, momentum changes nothing else


@pytest.mark.slow
def test_ten_steps_with_dropped_tokens_have_the_same_losses_on_two_processes(recipe, tmp_path):
    options = [*DROPPING, "train.steps=10"]
    one, two = tmp_path / "one", tmp_path / "two"
    done = launch(["pretrain", str(recipe), *options, f"output={two}"], processes=2)
    assert done.returncode == 0, done.stderr
    pretrain(load_config(recipe, [*options, f"output={one}"]))
    for mine, theirs in zip(log_of(two), log_of(one), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert len(log_of(two)) == 10


def test_constraints_are_restored_after_every_step(recipe: Path) -> None:
    made = set_up(load_config(recipe, LDM_RECIPE), Accelerator(cpu=True))
    [(_, objective)] = made.objective.items()
    assert isinstance(objective, LDM)
    transition: Any = objective.model.transition
    with torch.no_grad():
        for parameter in transition.parameters():
            parameter.mul_(1.5)
    assert objective.model.spectral_radius() > 1.1
    train(made)
    assert objective.model.spectral_radius() < 1.03


def test_anchors_are_the_encoder_before_training(recipe: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"growing": ["It fills the frame."], "falling": ["It sinks to the bottom."]}))
    concept = f"objective={{concept: {{vocabulary: {words}, log_drift: true}}}}"
    config = load_config(recipe, [concept, "train.pretrained_lr_scale=1.0"])
    folder = train(set_up(config, Accelerator(cpu=True)))
    logs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    cosines = [log["concept/anchor_cosine"] for log in logs]
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[-1] < 0.9999


@pytest.mark.parametrize("recipe", list(SIZES))
def test_the_recipe_trains(recipe, overrides):
    config = load_config(recipe, overrides(recipe))
    run = pretrain(config)
    last = log_of(run)[-1]
    names = list(config.objective)
    losses = [last[f"{name}/loss"] * config.objective[name].get("weight", 1.0) for name in names]
    assert last["loss"] == pytest.approx(sum(losses), rel=1e-4)
    assert {
        "concept/distillation_category",
        "concept/distillation_description",
        "concept/spaces_agree",
    } <= set(last)
    before, after = tensors_of(run / "initial"), tensors_of(run / "checkpoints/step_00000004/encoder")
    # The map into the space of the words, and the words' own tower, are what gives features their meaning.
    texts = {key for key in before if key.startswith("text.safetensors")}
    assert texts and before.keys() - texts == after.keys()  # that tower is written once for the run
    moved = {key.split(":")[1] for key in after if not torch.equal(before[key], after[key])}
    kept = {key.split(":")[1] for key in after} - moved
    assert {"visual.proj", "visual.ln_post.weight", "visual.ln_post.bias"} <= kept
    assert {"visual.conv1.weight", "temporal.1.fc.weight", "time_embedding"} <= moved


def test_a_frozen_teacher_stays_the_image_model_and_the_run_says_so(overrides, capsys):
    run = pretrain(load_config("lss_small", overrides("lss_small", "teacher.momentum=1.0")))
    assert "teacher.momentum=1: the teacher stays as it was" in capsys.readouterr().out
    before, after = tensors_of(run / "initial"), tensors_of(run / "checkpoints/step_00000004/encoder")
    assert all(torch.equal(before[key], after[key]) for key in after)
    student = load_file(run / "checkpoints/step_00000004/student.safetensors")
    assert not torch.equal(
        student["encoder.visual.conv1.weight"], after["model.safetensors:visual.conv1.weight"]
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_trains_as_a_cpu_does(recipe, tmp_path):
    runs = {}
    for name, precision in (("fp32", "fp32"), ("bf16", "auto")):
        runs[name] = pretrain(
            load_config(recipe, [f"train.precision={precision}", f"output={tmp_path / name}"])
        )
        environment = json.loads((runs[name] / "environment.json").read_text())
        assert environment["device"] == torch.cuda.get_device_name()
    reference = log_of(train_on_cpu(recipe, tmp_path / "cpu"))
    for name, tolerance in (("fp32", 1e-4), ("bf16", 3e-3)):  # the losses move by 2e-2
        for ours, theirs in zip(log_of(runs[name]), reference, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], abs=tolerance), (name, ours["step"])
