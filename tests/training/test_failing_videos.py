"""A run in which a video costs its decoding process equals one in which it cannot be read, also when it is resumed."""

from __future__ import annotations

import csv
import functools
import os
import shutil
from pathlib import Path

import pytest

from tests.training.small_runs import assert_same, weights_of
from vidssl.config import Config, load_config
from vidssl.data.dataset import ClipDataset
from vidssl.data.decode.open import open_video
from vidssl.data.decode.reader import VideoReader
from vidssl.training import pretrain, setup
from vidssl.training.report import Report
from vidssl.training.sources import dataset

CRASH = "crash.mp4"


def open_or_crash(path: Path, *, timeline: object = None) -> VideoReader:
    if path.name == CRASH:
        with Path(os.environ["TRIES"]).open("a") as tries:
            tries.write("x")
        os._exit(7)
    return open_video(path)


@pytest.fixture
def crashing(sprites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Training videos one of which ends the process that opens it."""
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    file = sorted((data / "growing").iterdir())[0]
    file.rename(file.with_name(CRASH))
    monkeypatch.setenv("TRIES", str(tmp_path / "tries"))
    monkeypatch.setattr(dataset, "ClipDataset", functools.partial(ClipDataset, opener=open_or_crash))
    return data


def config_of(recipe: Path, data: Path, output: Path, *more: str) -> Config:
    given = [f"data.train={data}", f"output={output}", "data.check=false", "data.workers=2", *more]
    return load_config(recipe, given)


def quarantine_of(run: Path) -> list[dict[str, str]]:
    with (run / "quarantine.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_a_crashing_video_is_named_replaced_and_known_to_a_resumed_run(
    recipe: Path, crashing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ("train.steps=12",)
    straight = pretrain(config_of(recipe, crashing, tmp_path / "straight", *more))
    (row,) = quarantine_of(straight)
    assert (row["path"], row["cause"]) == (f"growing/{CRASH}", "the decoder crashed (exit code 7)")
    assert int(row["times"]) >= 2
    assert 1 <= int(row["first_step"]) < int(row["last_step"]) <= 12
    assert 2 <= Path(os.environ["TRIES"]).stat().st_size <= 4  # twice, and by workers ahead; then it is known

    original = Report.step

    def interrupted(self: Report, *args: object) -> None:
        original(self, *args)  # type: ignore[arg-type]
        if self.run.step == int(row["last_step"]):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config_of(recipe, crashing, tmp_path / "resumed", *more))
    Path(os.environ["TRIES"]).unlink()
    resumed = pretrain(config_of(recipe, crashing, tmp_path / "resumed", *more), resume=True)
    assert not Path(os.environ["TRIES"]).exists()  # known from the quarantine
    assert quarantine_of(resumed) == [row]
    assert_same(weights_of(straight), weights_of(resumed))

    monkeypatch.setattr(dataset, "ClipDataset", ClipDataset)
    (crashing / "growing" / CRASH).write_bytes(b"no video")
    unreadable = pretrain(config_of(recipe, crashing, tmp_path / "unreadable", *more))
    assert_same(weights_of(straight), weights_of(unreadable))


def test_a_run_goes_on_with_the_videos_it_began_with(recipe: Path, sprites: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    broken = sorted((data / "growing").iterdir())[0]
    content = broken.read_bytes()
    broken.write_bytes(b"no video")
    config = load_config(recipe, [f"data.train={data}"])
    run = pretrain(config)
    name = f"growing/{broken.name}"
    assert [(row["path"], row["times"], row["first_step"]) for row in quarantine_of(run)] == [
        (name, "0", "0")
    ]
    broken.write_bytes(content)
    assert name not in setup.read_videos(config, setup.Quarantine(run / "quarantine.csv")).index.paths
