from __future__ import annotations

import json

from tests.command_line import one_line
from vidssl.version import __version__


def test_a_recipe_is_shown_with_what_it_changes(vidssl, tmp_path):
    code, out, _ = vidssl("config", "show", "demo", "train.steps=7", "--output", tmp_path / "keys.json")
    assert code == 0
    assert "* train.steps: 7" in out
    assert "* objective.hsic.kappa: 8.0" in out
    assert "  train.log_every: 10" in out
    rows = {row["key"]: row for row in json.loads((tmp_path / "keys.json").read_text())["keys"]}
    assert rows["train.steps"]["default"] == "null"
    assert "optimiser steps" in rows["train.steps"]["meaning"]


def test_a_recipe_without_videos_is_shown_and_a_wrong_one_is_not(vidssl):
    assert vidssl("config", "show", "hsic")[0] == 0
    assert "did you mean 'steps'" in one_line(*vidssl("config", "show", "hsic", "train.step=7"))


def test_the_recipe_of_a_run_is_named(vidssl, checkpoint):
    assert f"its recipe is {checkpoint / 'config.yaml'}" in one_line(*vidssl("config", "show", checkpoint))


def test_the_schema_is_json(vidssl):
    code, out, _ = vidssl("config", "schema")
    assert code == 0
    assert "gamma_max" in json.loads(out)["properties"]["objective"]["properties"]["hsic"]["properties"]


def test_runs_are_listed(vidssl, checkpoint, tmp_path):
    code, out, _ = vidssl("runs", checkpoint, "--diff", "--output", tmp_path / "runs.json")
    assert code == 0
    assert "done" in out
    assert json.loads((tmp_path / "runs.json").read_text())["runs"][0]["state"] == "done"
    assert "no run" in one_line(*vidssl("runs", tmp_path))


def test_the_version(vidssl):
    assert vidssl("--version")[:2] == (0, f"vidssl {__version__}\n")
