from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tests.training.small_runs import assert_same, weights_of
from vidssl.config import load_config
from vidssl.config.section import AUTO
from vidssl.errors import VidsslError
from vidssl.training import memory, pretrain
from vidssl.training.recipes import batch_size
from vidssl.training.recipes.batch_size import SHARE, _largest, with_batch_size
from vidssl.training.recipes.dry_run import Measured, dry_run


def test_auto_is_a_word_of_recipes_and_nothing_below_one_is(recipe: Path) -> None:
    config = load_config(recipe, ["train.batch_size=auto"])
    assert config.train.batch_size == AUTO
    assert config.model_dump(mode="json")["train"]["batch_size"] == "auto"
    for wrong in ("0", "-2", "atuo", "1.5"):
        with pytest.raises(VidsslError, match=r"train\.batch_size"):
            load_config(recipe, [f"train.batch_size={wrong}"])


def test_the_largest_that_fits_is_taken_recorded_and_kept(
    recipe: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    costs = [dry_run(load_config(recipe, [f"train.batch_size={n}"])) for n in (8, 16)]
    planted = int(sum(cost["bytes"]["step"] + cost["checkpoint"] for cost in costs) / 2 / SHARE["cpu"])
    monkeypatch.setattr(batch_size, "free_memory", lambda device: planted)
    words = ["train.steps=2", "train.batch_size=auto", f"output={tmp_path / 'auto'}"]
    found = pretrain(load_config(recipe, words))
    assert "train.batch_size=auto: 8, by reckoning" in capsys.readouterr().out
    assert load_config(found / "config.yaml").train.batch_size == 8
    given = pretrain(
        load_config(recipe, ["train.steps=2", "train.batch_size=8", f"output={tmp_path / 'given'}"])
    )
    assert_same(weights_of(found), weights_of(given))
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 100 * planted)
    assert with_batch_size(load_config(recipe, words), resume=True).train.batch_size == 8


def test_what_does_not_fit_at_all_is_refused_and_leaves_nothing(recipe: Path, monkeypatch) -> None:
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 10_000)
    config = load_config(recipe, ["train.batch_size=auto"])
    with pytest.raises(
        VidsslError,
        match=r"auto: 2 clips need [\d,.]+ MiB, and 0 MiB may be used on cpu; try train.accumulation=2",
    ):
        pretrain(config)
    assert not Path(config.output).exists()


@pytest.mark.parametrize(
    ("processes", "repeats", "accumulation", "device", "memory", "expected"),
    [
        (1, 1, 1, "cuda", 1000, 64),
        (1, 1, 4, "cuda", 1000, 128),
        (3, 1, 1, "cuda", 1000, 192),  # each has a memory of its own
        (1, 5, 1, "cuda", 1000, 40),
        (1, 1, 1, "cuda", 10**9, 512),  # as many as there are
        (1, 1, 1, "cpu", 10**9, 256),
        (2, 1, 1, "cpu", 2000, 64),  # which share it
    ],
)
def test_sizes_are_powers_of_two_times_what_has_to_divide_them(
    processes, repeats, accumulation, device, memory, expected
) -> None:
    """100 bytes are fixed, a clip needs 10, its view 1; four fifths of a GPU's memory may be used, three of a CPU's."""
    config = SimpleNamespace(
        train=SimpleNamespace(accumulation=accumulation, optimizer="adamw", lr=1e-3),
        data=SimpleNamespace(repeats=repeats),
    )
    accelerator = SimpleNamespace(device=torch.device(device), num_processes=processes)
    step = Measured(
        2, 1.0, 0.0, {"weights": 100, "gradients": 0}, 20, [torch.zeros(2, dtype=torch.uint8)], []
    )
    assert _largest(config, accelerator, step, memory, 600 // repeats)[0] == expected


def test_a_control_group_counts_as_memory(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "CGROUPS", tmp_path)
    machine = memory.free_memory(torch.device("cpu"))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("500\n")
    assert memory.free_memory(torch.device("cpu")) > machine / 2
    (tmp_path / "memory.max").write_text("1500\n")
    assert memory.free_memory(torch.device("cpu")) == 1000
