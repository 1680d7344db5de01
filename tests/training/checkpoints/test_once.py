"""What training does not change stands once in a run: the text tower and, where they are most of it, frozen weights; else these in the
teacher's encoder alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import vidssl
from tests.conftest import write_recipe
from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.files import read_json, write_json
from vidssl.models.export import save_encoder
from vidssl.runs import load_run
from vidssl.training import pretrain
from vidssl.training.checkpoints.once import without_rest

LAST = "checkpoints/step_00000006"
MODEL = "encoder/model.safetensors"


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


@pytest.fixture(scope="module")
def frozen_run(tmp_path_factory, sprites, tiny_clip) -> Path:
    """Of a head behind a frozen image model, which is most of the weights."""
    folder = tmp_path_factory.mktemp("frozen")
    options = ["model.freeze=all_but_temporal", "model.temporal=head", "model.options={head_width: 16}"]
    return pretrain(load_config(write_recipe(folder, sprites, tiny_clip), options))


@pytest.fixture
def frozen(frozen_run: Path, tmp_path: Path) -> Path:
    """A copy, in another place than the one where it was trained."""
    shutil.copytree(frozen_run, tmp_path / "moved")
    return tmp_path / "moved"


def test_frozen_weights_are_written_once_for_a_run_and_found(frozen, tmp_path):
    kept, own = load_file(frozen / LAST / "student.safetensors"), load_file(frozen / LAST / MODEL)
    names = {name.removeprefix("encoder.") for name in read_json(frozen / LAST / "state.json")["in_encoder"]}
    assert "visual.conv1.weight" in names
    assert not kept.keys() & {f"encoder.{name}" for name in names}
    assert not own.keys() & names
    assert any("temporal_head" in name for name in own)
    untrained = load_file(frozen / "initial/model.safetensors")
    assert sum(x.nbytes for x in own.values()) < 0.5 * sum(x.nbytes for x in untrained.values())
    trained = vidssl.load(frozen).state_dict()
    assert_same(trained, untrained | own)
    assert any(not torch.equal(x, untrained[name]) for name, x in own.items())
    save_encoder(vidssl.load(frozen), tmp_path / "taken")
    assert_same(load_file(tmp_path / "taken/model.safetensors"), trained)
    assert_same(vidssl.load(tmp_path / "taken").state_dict(), trained)
    recipe = load_config(frozen / "config.yaml").model
    begun = vidssl.create_model(recipe.name, str(frozen), temporal="head", head_width=16)  # as weights
    assert_same(begun.state_dict(), trained)


def test_a_run_whose_frozen_weights_stand_once_resumes_to_the_last_bit(frozen_run, frozen):
    student = load_run(frozen, weights="student").student.state_dict()
    start = load_run(frozen, weights="initial").student.state_dict()
    names = read_json(frozen / LAST / "state.json")["in_encoder"]
    assert all(torch.equal(student[name], start[name]) for name in names)
    shutil.rmtree(frozen / LAST)
    pretrain(load_config(frozen / "config.yaml", [f"output={frozen}"]), resume=True)
    assert_same(weights_of(frozen_run), weights_of(frozen))


def test_other_or_lost_frozen_weights_are_refused(frozen, tmp_path):
    shutil.copytree(frozen / LAST / "encoder", tmp_path / "away")
    with pytest.raises(VidsslError, match=r"written once for the run, to .*not there; .*vidssl export"):
        vidssl.load(tmp_path / "away")
    file = frozen / "initial/model.safetensors"
    save_file({name: x + 1 for name, x in load_file(file).items()}, file)
    with pytest.raises(VidsslError, match=r"model\.safetensors: holds other weights than those"):
        vidssl.load(frozen)
    shutil.rmtree(frozen / LAST)
    before = {path: path.read_bytes() for path in frozen.rglob("*") if path.is_file()}
    with pytest.raises(VidsslError, match=r"model\.safetensors: holds other weights than those"):
        pretrain(load_config(frozen / "config.yaml", [f"output={frozen}"]), resume=True)
    assert before == {path: path.read_bytes() for path in before}


def test_where_the_untrained_encoder_cannot_vouch_for_them_all_are_written(frozen_run, frozen):
    whole = vidssl.load(frozen_run).state_dict()
    names = ["encoder." + name for name in whole if "temporal_head" not in name]
    own, rest = without_rest(frozen, whole, names)
    assert rest is not None and own.keys() == {name for name in whole if "temporal_head" in name}
    assert without_rest(frozen, whole, names[:1]) == (whole, None)  # which are not worth it
    changed = whole | {"visual.conv1.weight": whole["visual.conv1.weight"] + 1}
    assert without_rest(frozen, changed, names) == (changed, None)
    for harm in (lambda file: file.write_bytes(b"torn"), Path.unlink):
        harm(frozen / "initial/model.safetensors")
        assert without_rest(frozen, whole, names) == (whole, None)


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
