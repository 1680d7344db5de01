from __future__ import annotations

import copy
import json
import math
from typing import Any

import jsonschema
import pytest

from tests.command_line import FAST
from vidssl.cli.app import app
from vidssl.errors import VidsslError
from vidssl.evaluation.official import mean_of_splits
from vidssl.evaluation.results.forms import RESULTS
from vidssl.evaluation.results.schema import mistake, read_result, result_schema

WITHOUT = {  # commands that write no result of an evaluation
    "pretrain", "interpolate", "export", "demo", "try", "app", "report", "runs", "doctor",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from vidssl.evaluation import EvalOptions, knn
    from vidssl.synthetic.motions import write_sprite_dataset

    root = tmp_path_factory.mktemp("videos")
    write_sprite_dataset(root, ("growing", "moving_up"), 2, 1, frames=4, size=16)
    options = EvalOptions(clips=1, workers=0, frames=2, size=16, device="cpu", cache=False)
    return json.loads(json.dumps(knn("conv3d/small", root / "train", root / "val", k=[1], options=options)))


@pytest.mark.parametrize("kind", RESULTS)
def test_every_schema_is_one_and_says_what_it_is_of(kind: str) -> None:
    schema = result_schema(kind)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$id"].endswith(f"/{kind}/1") and "schema" in json.dumps(schema)


def test_every_command_writes_a_result_of_known_form_or_none() -> None:
    commands = {
        str(command.name or command.callback.__name__).replace("_", "-")
        for command in app.registered_commands
    }
    kinds = {"knn" if kind == "k-nn" else kind for kind in RESULTS}
    assert commands - WITHOUT == kinds, (
        "a new command: give its results a form and a protocol, or name it in WITHOUT"
    )


def test_a_result_is_of_its_published_form(found: dict[str, Any]) -> None:
    jsonschema.validate(found, result_schema("knn"))
    assert mistake(found) is None


def broken(found: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Results with one mistake, and what is said of it."""
    rows = []
    for change, said in (
        (lambda x: x.pop("protocol"), "protocol: Field required"),
        (lambda x: x.update(shema="knn/1"), "shema: Extra inputs"),
        (lambda x: x["protocol"].update(hash="no"), "protocol.hash: String should match"),
        (lambda x: x["scores"]["trained, k = 1"].pop("top1"), "scores.trained, k = 1.top1: Field required"),
        (
            lambda x: x["scores"]["chance"].update(top1="a"),
            "scores.chance.top1: Input should be a valid number",
        ),
        (lambda x: x["val"].pop("content"), "val.content: Field required"),
    ):
        other = copy.deepcopy(found)
        change(other)
        rows.append((other, said))
    return rows


def test_what_is_not_of_it_is_named_by_both_readers(found: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(result_schema("knn"))
    for other, said in broken(found):
        assert said in str(mistake(other)) and not validator.is_valid(other), said


def test_files_that_are_no_results_are_refused_in_one_line(found: dict[str, Any], tmp_path) -> None:
    file = tmp_path / "r.json"
    file.write_text(json.dumps(found))
    assert read_result(file) == found
    not_finite = copy.deepcopy(found)
    not_finite["scores"]["chance"]["top1"] = math.nan
    for text, said in (
        (json.dumps(not_finite), "finite number"),
        (json.dumps({"loss": 1}), "schema: None is no result of vidssl"),
        (json.dumps({"schema": "kn/1"}), "did you mean 'knn'?"),
        (json.dumps({"schema": "knn/0"}), "reads knn/1; measure it again"),
        ("[1]", "expected a JSON object"),
    ):
        file.write_text(text)
        with pytest.raises(VidsslError, match=str(file)) as error:
            read_result(file)
        assert said in str(error.value) and "\n" not in str(error.value)


def edited(result: dict[str, Any]) -> list[tuple[dict[str, Any], str]]:
    """Results of the right form that say two things of one, as after an edit by hand, and what is said of it."""
    rows = []
    row = "trained, k = 1"
    for change, said in (
        (lambda x: x["scores"][row].update(top1=0.123), f"scores.{row}.top1: 0.123, but "),
        (lambda x: x["scores"][row].update(correct=0, top1=0.0), "by its answers"),
        (lambda x: x["scores"]["chance"].update(top1=1.5), "scores.chance.top1: 1.5 is no accuracy"),
        (lambda x: x["protocol"].update(hash="0" * 16), "protocol.hash: 0000000000000000 is not the hash"),
        (lambda x: x["sampling"].update(frames=16), "sampling.frames: 16, but 2 in its protocol"),
        (lambda x: x["answers"]["videos"].pop(), "answers do not fit its scores: answers: 2 of 1 videos"),
        (lambda x: x["answers"]["truth"].pop(), "answers do not fit its scores: zip()"),
    ):
        other = copy.deepcopy(result)
        other["answers"]["answered"][row] = [*other["answers"]["truth"]]
        other["scores"][row].update(correct=2, total=2, top1=1.0)
        assert mistake(other) is None
        change(other)
        rows.append((other, said))
    return rows


def test_a_result_that_contradicts_itself_is_refused(found: dict[str, Any], tmp_path) -> None:
    for other, said in edited(found):
        file = tmp_path / "r.json"
        file.write_text(json.dumps(other))
        with pytest.raises(VidsslError) as error:
            read_result(file)
        assert said in str(error.value) and "\n" not in str(error.value)


def test_of_several_splits_each_is_held_against_the_whole(found: dict[str, Any]) -> None:
    whole = mean_of_splits([found, found])
    whole = json.loads(json.dumps(whole))
    assert mistake(whole) is None
    other = copy.deepcopy(whole)
    other["scores"]["chance"].update(top1=0.75)
    assert mistake(other) == "scores.chance.top1: 0.75, but 0.5 by its splits"
    other = copy.deepcopy(whole)
    other["splits"][1]["sampling"].update(frames=16)
    assert mistake(other) == "split 2: sampling.frames: 16, but 2 in its protocol"


def test_the_command_prints_the_schema_that_its_results_have(vidssl, checkpoint_free_knn, tmp_path) -> None:
    code, out, _ = vidssl("config", "schema", "--result", "knn")
    assert code == 0
    jsonschema.validate(json.loads(checkpoint_free_knn.read_text()), json.loads(out))
    code, _, err = vidssl("config", "schema", "--result", "kn")
    assert code == 2 and "did you mean 'knn'?" in err


@pytest.fixture
def checkpoint_free_knn(vidssl, sprites, tmp_path):
    file = tmp_path / "knn.json"
    code, _, err = vidssl("knn", "conv3d/small", sprites / "train", sprites / "val", *FAST, "--frames", 2, "--size", 16,
                          "--output", file)  # fmt: skip
    assert code == 0, err
    return file
