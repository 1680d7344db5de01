"""Small runs: their recipes, starting them as users do, and reading what they leave."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file

from vidssl.models.weights import read_state

WORDS = {
    "moving right": ["A shape slides towards the right edge."],
    "moving left": ["A shape slides towards the left edge."],
    "growing": ["It fills more of the frame every moment.", "Its outline widens."],
    "spinning": ["The top of a shape points elsewhere in every frame."],
}
# Every recipe at the size of the tiny CLIP; what a recipe says of views, objectives and the rest stays.
SIZES = {
    "lss_small": ["views.0.frames=4", "views.0.size=32", "views.1.frames=2", "views.1.size=16"],
    "lss_vit_b16": [
        "views.0.size=32",
        *(f"views.{view}.size=16" for view in range(1, 5)),
        "train.epochs=null",
    ],
    "hsic_lss_kalman": [
        "views.0.size=32",
        "views.1.size=16",
        "train.epochs=null",
        "objective.hsic.projector=[32, 16]",
        "objective.hsic.predictor=[32, 16]",
        "objective.ldm.projector=[32, 4]",
        "objective.ldm.state_dim=8",
    ],
}


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Everything a checkpoint holds, by file and name."""
    return tensors_of(run / json.loads((run / "latest.json").read_text())["checkpoint"])


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def put_together(checkpoint: Path) -> dict[str, torch.Tensor]:
    """All of a checkpoint, whichever process wrote what."""
    found = {key: x for key, x in tensors_of(checkpoint).items() if "shard-" not in key}
    for name in ("student", "teacher_encoder", "teacher_heads", "optimizer"):
        parts = read_state(checkpoint / f"{name}.safetensors")
        found |= {f"{name}:{key}": x for key, x in parts.items()}
    return found


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def launch(arguments: list[str], processes: int) -> subprocess.CompletedProcess[str]:
    """The command as users start it on several processes."""
    return subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", str(processes),
         "--num_cpu_threads_per_process", "1", "-m", "vidssl", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "MASTER_PORT": "0"},
        check=False,
    )  # fmt: skip


def tell_accelerate() -> None:
    """Of the gloo group that `run_on_processes` has made, what a launcher would have told."""
    rank, processes = str(dist.get_rank()), str(dist.get_world_size())
    os.environ |= {
        "ACCELERATE_USE_CPU": "1", "MASTER_ADDR": "127.0.0.1", "RANK": rank, "LOCAL_RANK": rank,
        "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes,
    }  # fmt: skip


def train_on_cpu(recipe: Path, run: Path) -> Path:
    """In a process of its own, as accelerate chooses the device once and prefers a GPU."""
    command = [sys.executable, "-m", "vidssl", "pretrain", str(recipe), f"output={run}"]
    subprocess.run(command, check=True, timeout=240, env={**os.environ, "ACCELERATE_USE_CPU": "1"})
    assert json.loads((run / "environment.json").read_text())["device"] == "cpu"
    return run
