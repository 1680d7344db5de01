from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.files import read_json, write_json
from vidssl.training import pretrain


def test_mistakes_leave_nothing_behind(recipe, sprites, tmp_path):
    empty = tmp_path / "empty"
    (empty / "class").mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    shutil.copytree(sprites / "train", unreadable)
    for file in (unreadable / "growing").iterdir():
        file.write_bytes(b"no video")
    for override, message in (
        (f"data.train={tmp_path / 'nowhere'}", "nowhere"),
        (f"data.train={empty}", "empty"),
        (f"data.train={unreadable}", "growing"),
        ("train.batch_size=1000", "1000"),
        ("objective.hsic.gama=1", "did you mean 'gamma'"),
        ("model.pretrained=local-dir:/nowhere", "nowhere"),
        ("model.name=ViT-B-17", "ViT-B-1"),
        ("model.options={frmes: 3}", "frmes"),
    ):
        with pytest.raises(VidsslError, match=message):
            pretrain(load_config(recipe, [override]))
        assert not (tmp_path / "run").exists(), override


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A finished run that lost its last checkpoint."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "checkpoints" / "step_00000006")
    write_json(copy / "latest.json", {"checkpoint": "checkpoints/step_00000003"})
    return copy


def go_on(run: Path, *overrides: str, **how: bool) -> Path:
    """Resume a run with its own recipe."""
    return pretrain(
        load_config(run / "config.yaml", [f"output={run}", *overrides]), **{"resume": True, **how}
    )


def content_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mtime_ns)
        for path in folder.rglob("*")
    }


def test_a_run_is_not_overwritten_and_a_refused_resume_changes_nothing(run, sprites, tmp_path):
    fewer = tmp_path / "fewer"
    shutil.copytree(sprites / "train", fewer)
    next((fewer / "growing").iterdir()).unlink()
    other = tmp_path / "other"
    shutil.copytree(sprites / "train", other)
    files = sorted((other / "growing").iterdir())
    files[0].write_bytes(files[1].read_bytes())
    before = content_of(run)
    with pytest.raises(VidsslError, match="--resume"):
        go_on(run, resume=False)
    for overrides, message in (
        (["seed=1"], "seed 0 → 1;"),
        (["train.lr=0.002", "train.steps=12"], r"conditions: train.steps 6 → 12, train.lr 0.001 → 0.002;"),
        (["train.batch_size=4"], "train.batch_size 8 → 4"),
        (["data.decode_size=24"], "data.decode_size 32 → 24"),
        (["views.0.frames=3"], "views.0.frames 4 → 3"),
        (["objective.hsic.projector=[8, 16]"], r"objective.hsic.projector \[32, 16\] → \[8, 16\]"),
        (["objective={vicreg: {}}"], "objective.hsic.gamma 1.0 → none.*objective.vicreg none → {}"),
        ([f"data.train={fewer}"], "data.videos 24 → 23, data.digest .* → "),
        ([f"data.train={other}"], "conditions: data.digest [^,]* → [^,]*; restore"),
    ):
        with pytest.raises(VidsslError, match=message):
            go_on(run, *overrides)
        assert content_of(run) == before, overrides
    # Accepted, but not possible: the weights are of another shape.
    with pytest.raises(VidsslError, match="do not fit"):
        go_on(
            run, "objective.hsic.projector=[32, 8]", "objective.hsic.predictor=[32, 8]", accept_changes=True
        )
    assert content_of(run) == before


def test_other_versions_processes_and_devices_are_refused(run):
    recorded = read_json(run / "environment.json")
    assert recorded["data"]["videos"] == 24 and len(recorded["data"]["digest"]) == 64
    for changes, message in (
        ({"processes": 2}, "processes 2 → 1"),
        ({"device": "NVIDIA H200"}, "device NVIDIA H200 → cpu"),
        ({"packages": {**recorded["packages"], "torch": "1.0"}}, r"packages.torch 1\.0 → "),
        ({"packages": {**recorded["packages"], "other": "1.0"}}, r"packages.other 1\.0 → none"),
    ):
        write_json(run / "environment.json", {**recorded, **changes})
        before = content_of(run)
        with pytest.raises(VidsslError, match=message):
            go_on(run)
        assert content_of(run) == before


def test_accepted_changes_take_effect_and_are_recorded(run, finished, sprites, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(sprites / "train", moved)
    # The same videos elsewhere, and what changes no number, need not be accepted.
    go_on(run, f"data.train={moved}", "train.steps=6", "data.workers=1", "train.checkpoint_every=2")
    assert [line["loss"] for line in log_of(run)] == [line["loss"] for line in log_of(finished)]
    assert not (run / "changes.json").exists()
    shutil.rmtree(run / "checkpoints" / "step_00000006")
    go_on(run, "train.lr=0.1", "train.weight_decay=0.5", accept_changes=True)
    assert [line["lr"] for line in log_of(run)][4:5] != [line["lr"] for line in log_of(finished)][4:5]
    state = read_json(run / "checkpoints" / "step_00000006" / "state.json")
    assert {group["weight_decay"] for group in state["param_groups"]} == {0.5, 0.0}
    [accepted] = read_json(run / "changes.json")["accepted"]
    assert accepted["step"] == 4
    assert {"what": "train.lr", "before": 0.001, "now": 0.1} in accepted["changes"]
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["lr"] == 0.1
    go_on(run)  # these are now the run's conditions


def test_what_is_no_run_is_not_resumed_and_what_was_killed_while_it_began_begins(recipe, tmp_path):
    folder = tmp_path / "run"
    (folder / ".initial.partial").mkdir(parents=True)
    (folder / "environment.json").write_text("{")
    run = pretrain(load_config(recipe, ["train.steps=1"]))
    assert json.loads((run / "environment.json").read_text())["processes"] == 1
    assert not list(run.glob(".*"))
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "letter.txt").touch()
    with pytest.raises(VidsslError, match="holds no run that could be resumed"):
        pretrain(load_config(recipe, [f"output={tmp_path / 'letters'}"]), resume=True)
