from __future__ import annotations

import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch.distributed as dist
from accelerate import Accelerator

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import assert_same, log_of, weights_of
from vidssl.config import load_config
from vidssl.data.manifest.quarantine import Quarantine
from vidssl.distributed import rank, world_size
from vidssl.errors import VidsslError
from vidssl.files import newest_checkpoint
from vidssl.training import pretrain
from vidssl.training.loop import train
from vidssl.training.report import Report, warning
from vidssl.training.setup import set_up
from vidssl.utilisation import Work


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


def test_utilisation_is_of_a_counted_step_and_counting_changes_nothing(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("vidssl.utilisation.peak_rate", lambda device, half: 1e9)
    counted: list[Work] = []
    started = Work.__init__
    monkeypatch.setattr(
        Work, "__init__", lambda work, *a, **k: counted.append(work) or started(work, *a, **k)
    )
    short = "train.steps=2"
    run = pretrain(load_config(recipe, [short]))
    clips_in_views = 2 * 8
    for line in log_of(run):
        seconds = clips_in_views / line["clips_per_second"]
        assert line["mfu"] == pytest.approx(counted[0].flops / seconds / 1e9)
    bare = ["objective.hsic.target=false", "objective.hsic.predictor=null"]
    pretrain(load_config(recipe, [short, f"output={tmp_path / 'bare'}", *bare]))
    assert 0.5 < counted[1].flops / counted[0].flops < 0.9  # without a teacher: 3 of 4 passes
    monkeypatch.setattr("vidssl.utilisation.peak_rate", lambda device, half: None)
    monkeypatch.setattr(Work, "counted", lambda work: nullcontext())
    without = pretrain(load_config(recipe, [short, f"output={tmp_path / 'without'}"]))
    assert "mfu" not in log_of(without)[-1]
    assert_same(weights_of(run), weights_of(without))


def test_a_gpu_is_waited_for_around_logged_steps_only(recipe, monkeypatch):
    waited: list[int] = []
    monkeypatch.setattr("torch.accelerator.synchronize", lambda device: waited.append(1))
    due, device = (lambda step: step == 3), SimpleNamespace(type="cuda")
    run = SimpleNamespace(accelerator=SimpleNamespace(device=device))
    for step in range(1, 6):
        Report.settle(SimpleNamespace(run=run, is_due=due), step)
    assert len(waited) == 1
    device.type = "cpu"
    Report.settle(SimpleNamespace(run=run, is_due=due), 3)
    assert len(waited) == 1


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
