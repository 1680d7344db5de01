"""What training does not change stands once in a run: the text tower, and frozen weights in the teacher's encoder alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidssl
from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.files import read_json, write_json
from vidssl.models.export import save_encoder
from vidssl.runs import load_run
from vidssl.training import pretrain

LAST = "checkpoints/step_00000006"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def test_the_text_tower_is_written_once_and_found(run, tmp_path):
    assert (run / "initial/text.safetensors").is_file()
    assert not list((run / "checkpoints").rglob("text.safetensors"))
    first, trained = vidssl.load(run / "initial"), vidssl.load(run / LAST / "encoder")
    assert trained.text is not None and trained.text.fingerprint == first.text.fingerprint
    words = trained.text.encode(["a shape grows"])
    assert torch.equal(words, first.text.encode(["a shape grows"]))
    save_encoder(trained, tmp_path / "taken")
    assert torch.equal(vidssl.load(tmp_path / "taken").text.encode(["a shape grows"]), words)


def test_a_checkpoint_that_left_its_run_says_where_its_text_tower_is(run, tmp_path):
    shutil.copytree(run / LAST / "encoder", tmp_path / "away")
    with pytest.raises(
        VidsslError, match=r"written once for the run, to .*which is not there; .*vidssl export"
    ):
        vidssl.load(tmp_path / "away")


def test_another_text_tower_is_refused(run):
    file = run / "initial/config.json"
    config = read_json(file)
    config["text"]["fingerprint"] = "0" * 64
    write_json(file, config)
    with pytest.raises(VidsslError, match="holds another text tower"):
        vidssl.load(run / LAST)


def test_a_resume_beside_another_text_tower_is_refused(run, tiny_clip, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_clip, other)
    weights = load_file(other / "open_clip_model.safetensors")
    name = next(key for key in weights if "text_projection" in key)
    save_file(weights | {name: weights[name] + 1.0}, other / "open_clip_model.safetensors")
    config = load_config(
        run / "config.yaml",
        [f"output={run}", f"model.name=local-dir:{other}", f"model.pretrained=local-dir:{other}"],
    )
    with pytest.raises(VidsslError, match="was trained beside another text tower"):
        pretrain(config, resume=True, accept_changes=True)


def test_frozen_weights_stand_in_the_encoder_alone_and_resume_to_the_last_bit(recipe, tmp_path):
    options = ["model.freeze=all_but_temporal", f"output={tmp_path / 'whole'}"]
    whole = pretrain(load_config(recipe, options))
    kept = load_file(whole / LAST / "student.safetensors")
    frozen = read_json(whole / LAST / "state.json")["in_encoder"]
    assert "encoder.visual.conv1.weight" in frozen
    assert not kept.keys() & {*frozen}
    assert any("temporal" in name for name in kept) and not any("visual" in name for name in kept)
    student = load_run(whole, weights="student").student.state_dict()
    assert {*student} == {*kept, *frozen}
    start = load_run(whole, weights="initial").student.state_dict()
    assert all(torch.equal(student[name], start[name]) for name in frozen)
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / LAST)
    pretrain(load_config(resumed / "config.yaml", [f"output={resumed}"]), resume=True)
    assert_same(weights_of(whole), weights_of(resumed))
