"""Averages over the three official splits: each as if measured alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import vidssl
from vidssl.data.manifest.formats.splits import three_splits
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, knn, linear_probe
from vidssl.models.export import save_encoder

NAMES = ("ApplyEyeMakeup", "Archery", "BabyCrawling")
GROUPS = (1, 8, 15, 22, 23)  # of the first, second, third test split, and of none
OPTIONS = EvalOptions(clips=2, frames=4, seconds=0.5, size=32, workers=0, device="cpu")


@pytest.fixture(scope="module")
def videos(sprites: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A piece of UCF101, of which one video of the first test split is broken."""
    root = tmp_path_factory.mktemp("ucf101") / "videos"
    for name, motion in zip(NAMES, sorted((sprites / "train").iterdir()), strict=True):
        for group, file in zip(GROUPS, sorted(motion.iterdir()), strict=False):
            target = root / name / f"v_{name}_g{group:02}_c01.avi"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    shutil.copy(root / "Archery/v_Archery_g01_c01.avi", root / "Archery/v_Archery_g01_c02.avi")
    (root / "Archery/v_Archery_g01_c02.avi").write_bytes(b"no video")
    return root


@pytest.fixture(scope="module")
def encoder(tiny_clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("official") / "encoder"
    save_encoder(vidssl.create_model(f"local-dir:{tiny_clip}", load_text=False), folder)
    return folder


def test_three_splits_are_each_as_if_alone(videos: Path, encoder: Path) -> None:
    result = knn(encoder, f"{videos}#split=train", f"{videos}#split=test", k=[1], options=OPTIONS)
    for number, one in enumerate(result["splits"], 1):
        sets = [f"{videos}#split={part}{number}" for part in ("train", "test")]
        alone = knn(encoder, *sets, k=[1], options=OPTIONS)
        assert one == {key: value for key, value in alone.items() if key != "environment"}
        assert one["val"]["videos"] == (4 if number == 1 else 3)
    assert len(result["splits"][0]["val"]["failed"]) == 1
    score = result["scores"]["motion energy, k = 1"]
    each = [one["scores"]["motion energy, k = 1"]["top1"] for one in result["splits"]]
    assert score["top1_splits"] == each
    assert score["top1"] == pytest.approx(np.mean(each))
    assert score["std"] == pytest.approx(np.std(each, ddof=1))
    assert {"task", "environment", "sampling"} <= result.keys()
    assert "environment" not in result["splits"][0]


def test_what_names_three_splits(videos: Path, encoder: Path) -> None:
    expected = tuple(f"{videos}#split=test{number}" for number in (1, 2, 3))
    assert three_splits(f"{videos}#split=test") == expected
    assert three_splits(f"{videos}#split=test#fps=25") == tuple(f"{one}#fps=25" for one in expected)
    for one in (videos, f"{videos}#split=test1", f"{videos}.json#split=test", f"{videos}#split=val"):
        assert three_splits(one) is None
    with pytest.raises(VidsslError, match=r"split=test1: is one set, but the other stands for three splits"):
        linear_probe(encoder, f"{videos}#split=train", f"{videos}#split=test1", options=OPTIONS)
