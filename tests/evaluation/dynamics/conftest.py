"""Latents drawn from a model, and a run of a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.evaluation.dynamics.simulation import simulate
from vidssl.config import load_config
from vidssl.evaluation.dynamics.latents import LatentSequences
from vidssl.training import pretrain


@pytest.fixture(scope="package")
def sequences() -> LatentSequences:
    return simulate()


@pytest.fixture(scope="package")
def run(tmp_path_factory, sprites, tiny_clip) -> Path:
    """A few steps of ldm on the rendered videos."""
    folder = tmp_path_factory.mktemp("ldm")
    data = {
        "output": str(folder / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 6, "seconds": 1.0, "size": 32, "blur_p": 0.0}],
        "model": {
            "name": f"local-dir:{tiny_clip}",
            "pretrained": f"local-dir:{tiny_clip}",
            "options": {"causal": True},
        },
        "objective": {"ldm": {"entropy": "logdet", "projector": [16, 2]}},
        "train": {"batch_size": 8, "steps": 3, "precision": "fp32"},
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    return pretrain(load_config(file))
