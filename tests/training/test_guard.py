from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from tests.training.small_runs import weights_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.objectives.base import ObjectiveOutput
from vidssl.training import loop, pretrain


def test_nonfinite_losses_are_skipped_then_fatal(recipe, monkeypatch):
    original = loop.compute_loss

    def poisoned(*arguments):
        output = original(*arguments)
        return ObjectiveOutput(output.loss * float("nan"), output.logs)

    monkeypatch.setattr(loop, "compute_loss", poisoned)
    run = pretrain(load_config(recipe))  # six steps: fewer than the limit
    assert torch.equal(
        load_file(run / "initial/model.safetensors")["visual.proj"],
        weights_of(run)["encoder/model.safetensors:visual.proj"],
    )
    with pytest.raises(VidsslError, match="20 times in a row"):
        pretrain(load_config(recipe, ["train.steps=30", f"output={run.parent / 'long'}"]))
