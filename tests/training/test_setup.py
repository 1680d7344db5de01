from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tests.training.small_runs import weights_of
from vidssl.config import load_config
from vidssl.training import pretrain
from vidssl.training.setup import mixed_precision, set_up


def test_one_process_can_train_in_one_precision_after_another(recipe, tmp_path):
    runs = [
        pretrain(load_config(recipe, [f"train.precision={precision}", f"output={tmp_path / precision}"]))
        for precision in ("fp32", "bf16")
    ]
    exact, rounded = (weights_of(run)["encoder/model.safetensors:visual.proj"] for run in runs)
    start = load_file(runs[0] / "initial/model.safetensors")["visual.proj"]
    assert not torch.equal(exact, rounded)
    assert (rounded - exact).norm() < 0.5 * (exact - start).norm()


def test_an_accelerator_of_somebody_else_is_left_alone(recipe, tmp_path):
    code = """if True:
        import sys
        from accelerate import Accelerator
        from vidssl.config import load_config
        from vidssl.training import pretrain
        own = Accelerator(mixed_precision="bf16", cpu=True)
        try:
            pretrain(load_config(sys.argv[1], sys.argv[2:]))
        except Exception as error:
            print(type(error).__name__, error)
        print(own.mixed_precision)
    """
    command = [sys.executable, "-c", code, str(recipe), f"output={tmp_path / 'own'}"]
    out = subprocess.run(command, check=True, timeout=240, capture_output=True, text=True).stdout
    assert "VidsslError train.precision: this process has an Accelerator with mixed_precision='bf16'" in out
    assert out.splitlines()[-1] == "bf16"


@pytest.mark.parametrize(("cpu", "expected"), [("", "bf16"), ("false", "bf16"), ("true", "no"), ("1", "no")])
def test_auto_precision_follows_the_device_that_is_used(recipe, monkeypatch, cpu, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setenv("ACCELERATE_USE_CPU", cpu)
    assert mixed_precision(load_config(recipe, ["train.precision=auto"]).train) == expected


def test_layer_decay_reaches_the_optimiser(recipe: Path) -> None:
    config = load_config(recipe, ["train.layer_decay=0.5", "train.pretrained_lr_scale=0.2"])
    made = set_up(config, Accelerator(cpu=True))
    scales = {group["lr_scale"] for group in made.optimizer.param_groups}
    assert scales >= {1.0, 0.2, 0.2 * 0.5, 0.2 * 0.25}  # heads, last block, first block, embeddings
