"""Several training sets as one."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from tests.training.small_runs import assert_same, log_of, weights_of
from vidssl.config import Config, load_config
from vidssl.errors import VidsslError
from vidssl.training import pretrain
from vidssl.training.report import Report

CLASSES = ("growing", "moving_left", "moving_right")


def config_of(recipe: Path, folder: Path, output: Path, weights: tuple[float, ...] = ()) -> Config:
    sets = [f"{{path: {folder / name}}}" for name in CLASSES]
    if weights:
        sets = [f"{one[:-1]}, weight: {weight}}}" for one, weight in zip(sets, weights, strict=True)]
    return load_config(recipe, [f"data.train=[{', '.join(sets)}]", f"output={output}"])


def test_sets_without_weights_train_as_the_folder_that_holds_them(
    recipe: Path, sprites: Path, tmp_path: Path
) -> None:
    one = pretrain(load_config(recipe))
    several = pretrain(config_of(recipe, sprites / "train", tmp_path / "several"))
    assert_same(weights_of(one), weights_of(several))
    assert [row["loss"] for row in log_of(one)] == [row["loss"] for row in log_of(several)]


def test_a_weighted_run_goes_on_exactly_and_only_with_its_weights(
    recipe: Path, sprites: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    shutil.copytree(sprites / "train", data)
    broken = min((data / "moving_left").iterdir())
    broken.write_bytes(b"no video")
    straight = pretrain(config_of(recipe, data, tmp_path / "straight", (4, 1, 1)))
    with (straight / "quarantine.csv").open(newline="") as lines:
        [row] = csv.DictReader(lines)
    assert (row["path"], row["times"]) == (f"moving_left/{broken.name}", "0")
    assert row["cause"]

    shown: list[str] = []
    original = Report.step

    def interrupted(self: Report, batch: object, *args: object) -> None:
        original(self, batch, *args)  # type: ignore[arg-type]
        shown.extend(self.run.shown(batch))  # type: ignore[arg-type]
        if self.run.step == 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Report, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pretrain(config_of(recipe, data, tmp_path / "resumed", (4, 1, 1)))
    of_first = sum("growing" in name for name in shown[:16])
    assert of_first >= 8  # 15 of an epoch's 23 are of the first set, of which 16 were shown
    other = config_of(recipe, data, tmp_path / "resumed", (1, 1, 1))
    with pytest.raises(VidsslError, match=r"data\.train\.0\.weight 4\.0 → 1\.0"):
        pretrain(other, resume=True)
    moved = data.rename(tmp_path / "elsewhere")
    resumed = pretrain(config_of(recipe, moved, tmp_path / "resumed", (4, 1, 1)), resume=True)
    assert_same(weights_of(straight), weights_of(resumed))


def test_a_set_without_a_readable_video_is_named(recipe: Path, sprites: Path, tmp_path: Path) -> None:
    shutil.copytree(sprites / "train", tmp_path / "data")
    for file in (tmp_path / "data/moving_left").iterdir():
        file.write_bytes(b"no video")
    with pytest.raises(VidsslError, match="moving_left: none of the 8 videos can be read"):
        pretrain(config_of(recipe, tmp_path / "data", tmp_path / "run"))
    assert not (tmp_path / "run").exists()
