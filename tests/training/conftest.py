"""Runs that several tests start from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState

from tests.training.small_runs import SIZES, WORDS
from vidssl.config import load_config
from vidssl.training import pretrain


@pytest.fixture(autouse=True)
def own_accelerator() -> Iterator[None]:
    """An accelerator that a test made does not stay for the next one, which may want another precision."""
    yield
    AcceleratorState._reset_state()


@pytest.fixture
def trained(recipe: Path) -> Path:
    return pretrain(load_config(recipe))


@pytest.fixture
def overrides(sprites: Path, tiny_clip: Path, tmp_path: Path):
    words = tmp_path / "motions.json"
    words.write_text(json.dumps(WORDS))

    def make(recipe: str, *more: str) -> list[str]:
        return [
            *SIZES[recipe],
            f"output={tmp_path / 'run'}",
            f"data.train={sprites / 'train'}",
            "data.decode_size=32",
            "data.workers=0",
            f"model.name=local-dir:{tiny_clip}",
            f"model.pretrained=local-dir:{tiny_clip}",
            f"objective.concept.vocabulary={words}",
            "train.batch_size=8",
            "train.steps=4",
            "train.lr=1e-3",
            "train.precision=fp32",
            "train.log_every=1",
            "train.checkpoint_every=2",
            *more,
        ]

    return make
