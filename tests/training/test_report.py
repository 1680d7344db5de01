from __future__ import annotations

import shutil

from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.training import pretrain
from vidssl.training.report import warning


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
