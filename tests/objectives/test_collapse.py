"""The collapse of small runs with gamma = 3, and that the default and the small recipes are free of it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from vidssl.objectives.diagnostics import collapse_warning
from vidssl.synthetic.motions import write_sprite_dataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def benchmark() -> Any:
    spec = importlib.util.spec_from_file_location("collapse", ROOT / "benchmarks" / "collapse.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def batches(benchmark: Any, tmp_path_factory: pytest.TempPathFactory) -> list[list[torch.Tensor]]:
    root = tmp_path_factory.mktemp("videos")
    write_sprite_dataset(root, clips_per_class_train=12, clips_per_class_val=0, texture=0.0)
    drawn: list[list[torch.Tensor]] = benchmark.draw_batches(root / "train", 60)
    return drawn


def warning(log: dict[str, float]) -> str | None:
    return collapse_warning(loss=log["loss"], hsic_xx=log["hsic_xx"])


@pytest.mark.slow
def test_gamma_3_collapses_a_fresh_network(benchmark: Any, batches: Any) -> None:
    last = benchmark.train(batches, {"gamma": 3.0}, {})[-1]
    assert last["hsic_xx"] < 1e-4
    assert abs(last["loss"]) < 5e-3


@pytest.mark.slow
def test_the_default_does_not(benchmark: Any, batches: Any) -> None:
    history = benchmark.train(batches, {}, {})
    assert history[-1]["hsic_xx"] > 2e-3
    assert history[-1]["rho"] > 0.3
    assert not any(warning(log) for log in history)


@pytest.mark.slow
def test_the_small_recipe_does_not(benchmark: Any, batches: Any) -> None:
    options = yaml.safe_load((ROOT / "configs" / "hsic_small.yaml").read_text())["objective"]["hsic"]
    objective = {key: options[key] for key in ("gamma", "gamma_start", "kappa") if key in options}
    history = benchmark.train(batches, objective, {"last_norm": options.get("last_norm", False)})
    assert history[-1]["hsic_xx"] > 2e-3
    assert history[-1]["hsic_xy"] > 0.02
    assert not any(warning(log) for log in history)
