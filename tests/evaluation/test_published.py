"""Protocols of others set what their command has, say where they come from, and give way to what is given."""

from __future__ import annotations

import importlib
import inspect
import json

import pytest
import torch

from vidssl.cli import evaluation, probes
from vidssl.cli.options import eval_arguments, eval_options
from vidssl.concepts.templates import template_presets
from vidssl.errors import VidsslError
from vidssl.evaluation.published import PUBLISHED, all_lines, as_published, published_lines
from vidssl.models.factory import create_model

COMMANDS = {
    "zero-shot": evaluation.zero_shot,
    "knn": evaluation.knn,
    "linear-probe": evaluation.linear_probe,
    "attentive-probe": probes.attentive_probe,
}
ALL = [(task, name) for task, known in PUBLISHED.items() for name in known]


def defaults(task):
    found = inspect.signature(COMMANDS[task]).parameters
    return {name: one.default for name, one in found.items() if name not in ("context", "protocol")}


@pytest.mark.parametrize(("task", "name"), ALL)
def test_every_protocol_sets_options_that_its_command_has_and_videos_can_be_shown_so(task, name):
    options = defaults(task)
    chosen = as_published(task, name, options, given=())
    assert set(PUBLISHED[task][name].values) <= set(options) and chosen.record["changed"] == {}
    assert {key: chosen.values[key] for key in PUBLISHED[task][name].values} == chosen.record["values"]
    shown = {key: chosen.values[key] for key in inspect.signature(eval_arguments).parameters}
    spec = eval_options(**shown).spec(create_model("conv3d/small", temporal="none"))
    assert spec.crops == chosen.values["crops"]
    if (
        chosen.values["seconds"] == 0 or chosen.values["stride"] is not None
    ):  # else the encoder says how long a clip is
        assert spec.clips_per_video == chosen.values["clips"]
    assert chosen.values.get("templates") in (None, *template_presets())
    [line] = [one for one in all_lines(task) if one.startswith(f"{name}: ")]
    assert PUBLISHED[task][name].source in line


def test_what_is_given_wins_and_is_said():
    options = {**defaults("zero-shot"), "frames": 16, "clips": 3}
    chosen = as_published("zero-shot", "open_vclip", options, given={"frames", "clips"})
    assert (chosen.values["frames"], chosen.values["clips"], chosen.values["stride"]) == (16, 3, 16)
    assert chosen.record["changed"] == {"frames": 16}  # three clips are its own
    lines = published_lines(chosen.record)
    assert "open_vclip of Open-VCLIP" in lines[0] and "frames 8, stride 16, clips 3" in lines[0]
    assert lines[1] == "given instead, so that it is no longer that protocol: frames 16"
    assert lines[2].startswith("not as published: UCF101")


@pytest.mark.parametrize(
    ("name", "key", "gone"), [("open_vclip", "seconds", "stride"), ("pe", "stride", "seconds")]
)
def test_an_extent_that_is_given_takes_the_place_of_the_other_kind(name, key, gone):
    options = {**defaults("zero-shot"), key: 2}
    chosen = as_published("zero-shot", name, options, given={key})
    assert chosen.values[key] == 2 and chosen.values[gone] is None and chosen.record["changed"] == {key: 2}


def test_an_unknown_one_is_an_error_with_the_nearest():
    with pytest.raises(VidsslError, match="did you mean 'open_vclip'"):
        as_published("zero-shot", "openvclip", {}, given=())


def test_by_command(vidssl, tmp_path):
    code, out, _ = vidssl("zero-shot", "--protocol", "list")
    assert code == 0 and [line.split(":")[0] for line in out.splitlines()] == list(PUBLISHED["zero-shot"])
    code, _, error = vidssl("knn", "nowhere", "nowhere", "nowhere", "--protocol", "dinoo")
    assert code == 2 and "did you mean 'dino'" in error


def test_a_result_says_the_protocol_and_pooling_is_part_of_what_makes_it_comparable(
    vidssl, finished, sprites, tmp_path
):
    from vidssl.evaluation.results.schema import mistake

    found = {}
    for name, more in (
        ("plain", ()),
        ("pe", ("--protocol", "pe")),
        ("changed", ("--protocol", "pe", "--frames", 4)),
    ):
        shown = ("--size", 32, "--workers", 0, "--device", "cpu", "--output", tmp_path / "r.json")
        code, out, _ = vidssl("zero-shot", finished, sprites / "val", *shown, *more)
        assert code == 0
        found[name] = json.loads((tmp_path / "r.json").read_text())
        assert mistake(found[name]) is None and ("protocol pe of Perception Encoder" in out) == (
            name != "plain"
        )
    assert "published" not in found["plain"] and found["plain"].get("pooling") is None
    assert found["pe"]["sampling"]["frames"] == 8 and found["pe"]["published"]["changed"] == {}
    assert found["changed"]["sampling"]["frames"] == 4 and found["changed"]["published"]["changed"] == {
        "frames": 4
    }
    assert found["pe"]["protocol"]["pooling"] == "clip" and "pooling" not in found["plain"]["protocol"]
    assert len(found["pe"]["templates"]["list"]) == 28


def test_pooling_says_which_features_are_classified(finished, sprites, monkeypatch):
    from vidssl.evaluation import EvalOptions, zero_shot
    from vidssl.evaluation import zero_shot as command
    from vidssl.evaluation.features import extract_features
    from vidssl.evaluation.setup import load_subject, read_labelled

    module, seen = importlib.import_module(command.__module__), {}
    rate = module.rated_with_debiased
    monkeypatch.setattr(
        module,
        "rated_with_debiased",
        lambda name, rows, *more: seen.update({name: rows}) or rate(name, rows, *more),
    )
    options = EvalOptions(frames=2, seconds=0.5, clips=1, size=32, workers=0, device="cpu")
    for pooling, key in (("unit", "trained/unit"), ("clip", "trained")):
        zero_shot(finished, sprites / "val", pooling=pooling, options=options)
        subject = load_subject(finished, options)
        index = read_labelled(sprites / "val", options).videos
        expected = extract_features(subject, index, description="same").features
        assert torch.equal(seen["trained"], expected[key]) and not torch.equal(
            expected["trained"], expected["trained/unit"]
        )
    with pytest.raises(VidsslError, match="pooling"):
        zero_shot(finished, sprites / "val", pooling="mean", options=options)
