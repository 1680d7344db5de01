from __future__ import annotations

import shutil

import torch

from tests.training.small_runs import assert_same, log_of, tensors_of, weights_of
from vidssl.config import load_config
from vidssl.training import pretrain


def test_resumed_run_equals_one_never_stopped(recipe, trained, tmp_path):
    resumed = tmp_path / "resumed"
    # What a kill between steps 3 and 6 leaves: the log runs ahead of the last complete checkpoint.
    shutil.copytree(trained, resumed)
    shutil.rmtree(resumed / "checkpoints" / "step_00000006")
    (resumed / "latest.json").write_text('{"checkpoint": "checkpoints/step_00000003"}')
    (resumed / "checkpoints" / ".step_00000006.partial").mkdir()
    with (resumed / "log.jsonl").open("a") as log:
        log.write('{"step": 7, "lo')
    pretrain(load_config(recipe, [f"output={resumed}"]), resume=True)
    assert_same(weights_of(trained), weights_of(resumed))
    assert [line["loss"] for line in log_of(resumed)] == [line["loss"] for line in log_of(trained)]


def test_resumed_concept_run_equals_one_never_stopped(overrides, tmp_path):
    """With the running statistics of the priors and of the monitors."""
    whole = pretrain(load_config("lss_small", overrides("lss_small")))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints/step_00000004")
    (resumed / "latest.json").write_text('{"checkpoint": "checkpoints/step_00000002"}')
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
