from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import weights_of
from vidssl.config import load_config
from vidssl.distributed import rank, world_size
from vidssl.errors import VidsslError
from vidssl.training import pretrain
from vidssl.training.accelerator import mixed_precision
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import set_up

X3D = ["model.name=pytorchvideo/x3d_xs", "model.pretrained=null"]


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


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["train.batch_size=1"], "train.batch_size=1: the head of objective.hsic has batch norm"),
        (["train.batch_size=1", *X3D], "train.batch_size=1: model.name=pytorchvideo/x3d_xs has batch norm"),
        (["train.accumulation=2", *X3D], "train.accumulation=2: model.name=pytorchvideo/x3d_xs has batch"),
    ],
)
def test_batch_norm_of_less_than_a_batch_is_refused_at_once(
    recipe: Path, overrides: list[str], said: str
) -> None:
    config = load_config(recipe, ["data.train=not-looked-at-yet", *overrides])
    with pytest.raises(VidsslError, match=re.escape(said)):
        pretrain(config)
    assert not Path(config.output).exists()


def test_one_video_is_enough_for_heads_without_batch_norm(recipe: Path) -> None:
    byol = "objective={byol: {norm: layer, projector: [16, 8]}}"
    made = set_up(load_config(recipe, ["train.batch_size=1", byol]), Accelerator(cpu=True))
    assert made.sampler.batch_size == 1


def first_losses(recipe: str, folder: str) -> list[dict[str, torch.Tensor]]:
    """Losses of two steps on these processes, and what the encoder's batch norm remembers after them."""
    processes = world_size()
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    config = load_config(recipe, [f"output={folder}/{processes}", *X3D, "train.steps=2"])
    made = set_up(config, Accelerator(cpu=True))
    assert made.accelerator.num_processes == processes
    with closing(Report(made)) as report:
        logs = [train_step(made, batch, report) for batch, _ in made.batches()]
    state = made.student.encoder.state_dict()
    return [*({"loss": log["loss"]} for log in logs), {k: x for k, x in state.items() if "running" in k}]


def test_an_encoder_with_batch_norm_trains_alike_on_one_and_two_processes(
    recipe: Path, tmp_path: Path
) -> None:
    [one] = run_on_processes(first_losses, 1, str(recipe), str(tmp_path), time_limit=200.0)
    for many in run_on_processes(first_losses, 2, str(recipe), str(tmp_path), time_limit=200.0):
        for ours, reference in zip(many, one, strict=True):
            for key, value in reference.items():
                torch.testing.assert_close(ours[key], value, atol=1e-4, rtol=1e-4)


def test_a_view_that_the_tower_cannot_take_is_named_before_anything_is_written(
    recipe: Path, tmp_path: Path
) -> None:
    config = load_config(recipe, ["views.0.size=30", "data.train=not-looked-at-yet"])
    with pytest.raises(VidsslError, match=r"^views\.0: .*30x30 pixels: both sides must be multiples of 8"):
        pretrain(config)
    assert not (tmp_path / "run").exists()
