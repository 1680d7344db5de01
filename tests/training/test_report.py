from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch.distributed as dist
from accelerate import Accelerator

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.data.manifest.quarantine import Quarantine
from vidssl.distributed import rank, world_size
from vidssl.errors import VidsslError
from vidssl.files import newest_checkpoint
from vidssl.training import pretrain
from vidssl.training.loop import train
from vidssl.training.report import warning
from vidssl.training.setup import set_up


def test_a_broken_video_is_named_and_the_run_goes_on(recipe, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    broken = next((data / "growing").iterdir())
    broken.write_bytes(broken.read_bytes()[:200])
    run = pretrain(load_config(recipe, [f"data.train={data}"]))
    assert broken.name in (run / "quarantine.csv").read_text()
    assert len(log_of(run)) == 6


def test_a_video_that_breaks_during_training_is_replaced_counted_and_named(recipe, sprites, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    for file in list((data / "growing").iterdir())[:4]:
        file.write_bytes(b"no video")
    run = pretrain(load_config(recipe, [f"data.train={data}", "data.check=false"]))
    assert log_of(run)[-1]["failed_videos"] > 0
    assert len((run / "quarantine.csv").read_text().splitlines()) >= 2


def test_flat_concept_targets_are_said_in_words() -> None:
    logs = {"c/marginal_entropy_category": 1.0, "c/entropy_category": 0.99, "c/clips": 500.0}
    assert "flat" in (warning(logs, dim=32) or "")
    assert warning({**logs, "c/entropy_category": 0.5}, dim=32) is None


@pytest.mark.parametrize(("seen", "ends_at"), [([1, 1, 1], 3), ([1, 1, 0, 1, 1, 0], None)])
def test_a_run_that_has_collapsed_is_stopped_where_that_is_asked(recipe, monkeypatch, seen, ends_at):
    said = iter(seen)
    monkeypatch.setattr(
        "vidssl.training.report.warning", lambda *_: "collapsed; lower gamma" if next(said) else None
    )
    config = load_config(recipe, ["train.stop_on_collapse=3", "train.checkpoint_every=2"])
    if ends_at is None:
        assert len(log_of(pretrain(config))) == 6
        return
    with pytest.raises(VidsslError, match=r"step 3, as train.stop_on_collapse=3.*collapsed; lower gamma"):
        pretrain(config)
    folder = Path(config.output)
    assert len(log_of(folder)) == ends_at
    assert newest_checkpoint(folder).name == "step_00000002"


@pytest.fixture
def breaking(recipe: Path, sprites: Path, tmp_path: Path) -> list[str]:
    """Overrides of a run in which four videos break."""
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    for file in list((data / "growing").iterdir())[:4]:
        file.write_bytes(b"no video")
    return [f"data.train={data}", "data.check=false"]


def counted(recipe: str, overrides: list[str]) -> tuple[list[int], int]:
    """Failed videos after each step, and those that the quarantine counts, of a run on these processes."""
    processes = world_size()
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": str(processes)}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    config = load_config(recipe, overrides)
    run = train(set_up(config, Accelerator(cpu=True)))
    dist.barrier()
    rows = Quarantine(run / "quarantine.csv").rows.values()
    return [line["failed_videos"] for line in log_of(run)], sum(row.times for row in rows)


def test_failed_videos_are_those_of_all_processes(recipe: Path, tmp_path: Path, breaking: list[str]) -> None:
    short = [*breaking, "train.steps=3"]
    [one] = run_on_processes(
        counted, 1, str(recipe), [*short, f"output={tmp_path / 'one'}"], time_limit=200.0
    )
    two = run_on_processes(counted, 2, str(recipe), [*short, f"output={tmp_path / 'two'}"], time_limit=200.0)
    assert one[0][-1] == one[1] > 0
    assert two == [one, one]


def test_failed_videos_are_counted_on_when_resumed(recipe: Path, tmp_path: Path, breaking: list[str]) -> None:
    whole = pretrain(load_config(recipe, breaking))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints/step_00000006")
    (resumed / "latest.json").write_text('{"checkpoint": "checkpoints/step_00000003"}')
    pretrain(load_config(recipe, [*breaking, f"output={resumed}"]), resume=True)
    counts = [[line["failed_videos"] for line in log_of(run)] for run in (whole, resumed)]
    assert counts[0][2] > 0
    assert counts[0] == counts[1]
