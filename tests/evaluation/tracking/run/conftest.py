from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="package")
def checkpoint_run(tmp_path_factory: pytest.TempPathFactory, sprites: Path, tiny_clip: Path) -> Path:
    """A run of one step, which keeps what it started from."""
    from vidssl.config import validate_config
    from vidssl.training import pretrain

    run = tmp_path_factory.mktemp("tracking") / "run"
    recipe = {
        "output": str(run),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 2, "seconds": 1.0, "size": 32}],
        "model": {"name": f"local-dir:{tiny_clip}"},
        "objective": {"hsic": {"gamma": 1.0, "projector": [32, 16]}},
        "train": {"batch_size": 4, "steps": 1, "precision": "fp32"},
    }
    return pretrain(validate_config(recipe, "test"))
