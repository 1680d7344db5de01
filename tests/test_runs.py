from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.runs import load_run, objective_name
from vidssl.training import pretrain


@pytest.fixture(scope="module")
def run(tmp_path_factory, sprites, tiny_clip) -> Path:
    """A few steps of two ldm objectives beside hsic."""
    folder = tmp_path_factory.mktemp("restore")
    latents = {"entropy": "logdet", "projector": [16, 3]}
    data = {
        "output": str(folder / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 5, "seconds": 1.0, "size": 32, "blur_p": 0.0}],
        "model": {"name": f"local-dir:{tiny_clip}", "pretrained": f"local-dir:{tiny_clip}", "options": {"causal": True}},
        "objective": {
            "hsic": {"gamma": 1.0, "projector": [16, 8], "predictor": [16, 8]},
            "slow": {"objective": "ldm", **latents},
            "fast": {"objective": "ldm", "state_dim": 4, **latents},
        },
        "teacher": {"momentum": 0.5},
        "train": {"batch_size": 8, "steps": 4, "precision": "fp32", "checkpoint_every": 2},
    }  # fmt: skip
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    return pretrain(load_config(file))


def checkpoint_of(run: Path) -> Path:
    return run / json.loads((run / "latest.json").read_text())["checkpoint"]


@pytest.mark.parametrize("weights", ["teacher", "student"])
def test_everything_comes_back_to_the_last_bit(run, weights):
    restored, folder = load_run(run, weights), checkpoint_of(run)
    assert list(restored.student.heads) == ["fast", "hsic", "slow"]
    files = {"student": ["student"], "teacher": ["encoder/model", "teacher_heads"]}[weights]
    saved = [load_file(folder / f"{file}.safetensors") for file in files]
    module = restored.student
    parts = [module] if weights == "student" else [module.encoder, module.heads]
    for part, tensors in zip(parts, saved, strict=True):
        own = part.state_dict()
        assert own.keys() == tensors.keys()
        assert all(torch.equal(own[key], tensors[key]) for key in own)
    learned = load_file(folder / "objective.safetensors")
    own = restored.objective.state_dict()
    assert own.keys() == learned.keys() and all(torch.equal(own[key], learned[key]) for key in own)
    assert not restored.student.training and not restored.objective.training
    assert not any(p.requires_grad for p in (*module.parameters(), *restored.objective.parameters()))
    assert restored.config == load_config(run / "config.yaml")


def test_teacher_and_student_differ_and_the_start_is_fresh(run):
    clips = torch.randn(1, 3, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    rows = {
        weights: load_run(run, weights).student([clips]).heads["slow"][0].frames
        for weights in ("teacher", "student", "initial")
    }
    assert rows["teacher"].shape == (1, 5, 3)
    assert not torch.allclose(rows["teacher"], rows["student"])
    assert not torch.allclose(rows["student"], rows["initial"])
    initial = load_run(run, "initial")
    assert torch.equal(initial.student([clips]).heads["slow"][0].frames, rows["initial"])
    before = load_file(run / "initial" / "model.safetensors")
    assert all(torch.equal(before[key], value) for key, value in initial.student.encoder.state_dict().items())


def test_only_the_objectives_asked_for_are_built(run):
    restored = load_run(run, objectives=["fast"])
    assert list(restored.student.heads) == ["fast"] and [n for n, _ in restored.objective.items()] == ["fast"]
    whole = load_run(run)
    own, all_of_them = restored.objective.state_dict(), whole.objective.state_dict()
    assert own and all(torch.equal(own[key], all_of_them[key]) for key in own)
    with pytest.raises(VidsslError, match="no objective 'fest'; did you mean 'fast'"):
        load_run(run, objectives=["fest"])


def test_an_earlier_checkpoint_can_be_named(run):
    folders = sorted((run / "checkpoints").iterdir())
    early, late = (load_run(folder).objective.state_dict() for folder in folders)
    assert any(not torch.equal(early[key], late[key]) for key in early)
    assert all(torch.equal(late[key], value) for key, value in load_run(run).objective.state_dict().items())


def test_restoring_leaves_the_random_state_alone(run):
    before = torch.get_rng_state()
    load_run(run, "initial")
    assert torch.equal(before, torch.get_rng_state())


def test_the_one_objective_of_a_kind_is_found(run):
    assert objective_name(run, "hsic") == "hsic"
    assert objective_name(run, "ldm", "fast") == "fast"
    for kind, name, message in (
        ("ldm", None, "several ldm objectives, choose one by name: fast, slow"),
        ("ldm", "fats", "no ldm objective 'fats'; did you mean 'fast'"),
        ("ldm", "hsic", "no ldm objective 'hsic'"),
        ("ressl", None, "no ressl objective; the run trained fast, hsic, slow"),
    ):
        with pytest.raises(VidsslError, match=message):
            objective_name(run, kind, name)


def test_what_is_no_run_is_named(run, tmp_path):
    for path, message in (
        (tmp_path / "nothing", "no such folder"),
        (run / "config.yaml", "not a folder"),
        (tmp_path, "is no run; expected a run folder"),
        (run / "initial", "an exported encoder has lost its heads"),
    ):
        with pytest.raises(VidsslError, match=message):
            load_run(path)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (checkpoint_of(copy) / "teacher_heads.safetensors").unlink()
    with pytest.raises(
        VidsslError, match=r"damaged: teacher_heads\.safetensors is missing; the one before it is whole"
    ):
        load_run(copy)
    (copy / "latest.json").unlink()
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(VidsslError, match="before its first checkpoint"):
        load_run(copy)


def test_a_recipe_that_does_not_fit_the_weights_is_refused(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    file = copy / "config.yaml"
    file.write_text(file.read_text().replace("- 3\n", "- 2\n"))
    with pytest.raises(VidsslError, match="weights do not fit"):
        load_run(copy)
