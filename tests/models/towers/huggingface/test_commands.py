"""Models of transformers where users name them: in commands and as the start of a training."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from tests.command_line import Run
from tests.models.towers.huggingface.tiny import tiny
from vidssl.config import validate_config
from vidssl.models.load import load_encoder
from vidssl.training import pretrain


def test_a_folder_is_evaluated_as_it_is(vidssl: Run, sprites: Path, tmp_path: Path) -> None:
    """Without a word on frames a VideoMAE is shown as many as it was made for."""
    tiny("VideoMAEModel", tmp_path / "mae", image_size=32, num_frames=4)
    name = f"transformers/{tmp_path}/mae"
    data = (sprites / "train", sprites / "val")
    code, _, said = vidssl("knn", name, *data, "--workers", "0", "--output", tmp_path / "knn.json")
    assert code == 0, said
    assert json.loads((tmp_path / "knn.json").read_text())["sampling"]["frames"] == 4


def test_a_training_starts_from_a_folder(sprites: Path, tmp_path: Path) -> None:
    tiny("VJEPA2Model", tmp_path / "jepa", crop_size=32)
    recipe = {
        "output": str(tmp_path / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 4, "seconds": 1.0, "size": 32}],
        "model": {"name": f"transformers/{tmp_path}/jepa"},
        "objective": {"hsic": {"gamma": 1.0, "projector": [32, 16]}},
        "train": {"batch_size": 8, "steps": 2, "precision": "fp32"},
    }
    pretrain(validate_config(recipe, "test"))
    trained, start = load_encoder(tmp_path / "run").state_dict(), load_encoder(tmp_path / "jepa").state_dict()
    moved = [key for key, value in start.items() if not torch.equal(value, trained[key])]
    assert len(moved) == len(start)
