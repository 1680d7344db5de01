from __future__ import annotations

import shutil

import pytest

from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.training import pretrain


def test_mistakes_leave_nothing_behind(recipe, sprites, tmp_path):
    empty = tmp_path / "empty"
    (empty / "class").mkdir(parents=True)
    unreadable = tmp_path / "unreadable"
    shutil.copytree(sprites / "train", unreadable)
    for file in (unreadable / "growing").iterdir():
        file.write_bytes(b"no video")
    for override, message in (
        (f"data.train={tmp_path / 'nowhere'}", "nowhere"),
        (f"data.train={empty}", "empty"),
        (f"data.train={unreadable}", "growing"),
        ("train.batch_size=1000", "1000"),
        ("objective.hsic.gama=1", "did you mean 'gamma'"),
        ("model.pretrained=local-dir:/nowhere", "nowhere"),
        ("model.name=ViT-B-17", "ViT-B-1"),
        ("model.options={frmes: 3}", "frmes"),
    ):
        with pytest.raises(VidsslError, match=message):
            pretrain(load_config(recipe, [override]))
        assert not (tmp_path / "run").exists(), override


def test_an_existing_run_is_not_overwritten(recipe, trained):
    with pytest.raises(VidsslError, match="--resume"):
        pretrain(load_config(recipe))
    with pytest.raises(VidsslError, match="seed"):
        pretrain(load_config(recipe, ["seed=1"]), resume=True)
    with pytest.raises(VidsslError, match="do not fit"):
        pretrain(
            load_config(recipe, ["objective.hsic.projector=[32, 8]", "objective.hsic.predictor=[32, 8]"]),
            resume=True,
        )
