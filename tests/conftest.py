"""Fixtures shared by the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import settings

from tests.command_line import Run, runner
from tests.tiny_clip import write_tiny_clip

# On a build machine the same examples every time; at a desk new ones, which find what nobody thought of.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is known of video files goes into a folder of this test run, not into the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def said_threads() -> Iterator[None]:
    """Commands compute with as many threads as the tests do, and do not look what else runs here."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))
        yield


@pytest.fixture(scope="module", autouse=True)
def same_threads() -> Iterator[None]:
    """No file leaves torch with another number of threads: sums of the next one's would differ in their last bits."""
    import torch

    before = torch.get_num_threads()
    yield
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == before, f"this file's tests leave torch with {after} threads, not {before}"


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny CLIP model (32 pixels, patch 8, width 64, 2 blocks, 32-d space) in open_clip's layout."""
    return write_tiny_clip(tmp_path_factory.mktemp("tiny-clip"))


@pytest.fixture(scope="session")
def sprites(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rendered videos: 3 motions, 8 train and 3 val clips of each, 12 frames of 32 pixels, and classes.csv."""
    from vidssl.synthetic.motions import write_sprite_dataset

    root = tmp_path_factory.mktemp("sprites")
    write_sprite_dataset(
        root,
        classes=("moving_right", "moving_left", "growing"),
        clips_per_class_train=8,
        clips_per_class_val=3,
        frames=12,
        size=32,
    )
    return root


@pytest.fixture
def recipe(tmp_path: Path, sprites: Path, tiny_clip: Path) -> Path:
    """A recipe that trains the tiny CLIP on the rendered videos for a few steps into ``tmp_path/run``."""
    return write_recipe(tmp_path, sprites, tiny_clip)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, sprites: Path, tiny_clip: Path) -> Path:
    """A run of such a recipe, which lies beside it; not to be changed."""
    from vidssl.config import load_config
    from vidssl.training import pretrain

    return pretrain(load_config(write_recipe(tmp_path_factory.mktemp("finished"), sprites, tiny_clip)))


def write_recipe(folder: Path, sprites: Path, tiny_clip: Path) -> Path:
    data = {
        "output": str(folder / "run"),
        "data": {"train": str(sprites / "train"), "window_seconds": None, "decode_size": 32, "workers": 0},
        "views": [{"frames": 4, "seconds": 1.0, "size": 32, "scale": [0.5, 1.0], "blur_p": 0.0}],
        "model": {"name": f"local-dir:{tiny_clip}", "pretrained": f"local-dir:{tiny_clip}"},
        "objective": {
            "hsic": {"gamma": 1.0, "estimator": "exact", "projector": [32, 16], "predictor": [32, 16]}
        },
        "train": {
            "batch_size": 8,
            "steps": 6,
            "lr": 1e-3,
            "precision": "fp32",
            "checkpoint_every": 3,
            "log_every": 1,
        },
    }
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


@pytest.fixture
def vidssl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Runs a command as the user types it; returns exit code, stdout, stderr."""
    return runner(monkeypatch, capfd)
