"""A run with `train.compile` computes what one without does, to the order of sums: plain, with dropped tokens, with activations that
are computed again, and split over processes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import log_of, tell_accelerate, tensors_of
from vidssl.config import load_config
from vidssl.training import pretrain

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs with g++"),
]
COMMON = [
    "objective={spectral: {projector: [32, 16], norm: layer}}",
    "model.temporal=divided",
    "train.steps=4",
    "train.checkpoint_every=4",
    "train.lr=1e-3",
    "teacher.momentum=0.9",
]
CASES = {
    "plain": [],
    "dropped tokens": ["model.options={token_drop: 0.5}", "teacher.token_drop=true"],
    "activations again": ["model.options={activation_checkpointing: true}"],
}
LAST = "checkpoints/step_00000004"


def pair(recipe: str, folder: str, overrides: list[str]) -> None:
    for compiled in ("false", "true"):
        words = [*COMMON, *overrides, f"train.compile={compiled}", f"output={folder}/{compiled}"]
        pretrain(load_config(recipe, words))


def pair_of_split(recipe: str, folder: str) -> None:
    tell_accelerate()
    pair(recipe, folder, ["train.shard=true"])


def assert_alike(folder: Path) -> None:
    plain, compiled = (log_of(folder / name) for name in ("false", "true"))
    for ours, reference in zip(compiled, plain, strict=True):
        assert ours["loss"] == pytest.approx(reference["loss"], abs=1e-5)
        assert ours["grad_norm"] == pytest.approx(reference["grad_norm"], rel=1e-4)
    weights = [tensors_of(folder / name / LAST / "encoder") for name in ("false", "true")]
    assert weights[0].keys() == weights[1].keys()
    apart = max(float((x.double() - weights[1][name].double()).abs().max()) for name, x in weights[0].items())
    print(f"{folder.name}: weights {apart:.1e} apart")
    assert apart < 1e-5


@pytest.mark.parametrize("name", list(CASES))
def test_compiled_blocks_compute_what_plain_ones_do(recipe: Path, tmp_path: Path, name: str) -> None:
    pair(str(recipe), str(tmp_path), CASES[name])
    assert_alike(tmp_path)


def test_so_do_those_of_a_split_run(recipe: Path, tmp_path: Path) -> None:
    run_on_processes(pair_of_split, 2, str(recipe), str(tmp_path), time_limit=500)
    assert_alike(tmp_path)
