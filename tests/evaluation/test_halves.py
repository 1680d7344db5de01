"""Zero-shot on halves of the classes: those that others draw, each on the videos of its own."""

from __future__ import annotations

import shutil
from importlib import import_module

import pytest
import torch

from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, zero_shot
from vidssl.evaluation.classes import class_list, half_of
from vidssl.evaluation.results.schema import mistake

FAST = EvalOptions(clips=1, frames=4, seconds=1.0, size=32, workers=0)


def test_halves_of_the_classes_are_those_that_others_draw(tiny_clip, sprites, tmp_path, monkeypatch):
    videos = iter(sorted((sprites / "train").rglob("*.mp4")))
    names = ["climb", "climb stairs", "dive", "eat", "fencing"]
    for name in names:
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(next(videos), tmp_path / "data" / name / "a.mp4")
    module = import_module("vidssl.evaluation.zero_shot")
    monkeypatch.setattr(module, "text_classifier", lambda *_: torch.ones(2, 32))
    encoder = f"local-dir:{tiny_clip}"
    result = zero_shot(encoder, tmp_path / "data", halves=3, options=FAST)
    assert len(result["scores"]["trained"]["top1_splits"]) == 3 and mistake(result) is None
    for seed, one in enumerate(result["splits"]):
        drawn = [[0, 2], [1, 2], [2, 4]][seed]  # np.random.seed(seed); np.random.permutation(5)[:2]
        assert one["classes"]["names"] == tuple(name for place, name in enumerate(names) if place in drawn)
        assert [path.split("/")[0] for path in one["answers"]["videos"]] == list(one["classes"]["names"])
        assert one["scores"]["chance"]["top1"] == 0.5
        assert any(
            "left out, as this protocol has it: 3 videos of 3 other classes" in line for line in one["notes"]
        )
    assert len({one["protocol"]["hash"] for one in result["splits"]}) > 1
    for asked, said in (
        ({"halves": 1}, "halves=1: must be 0"),
        ({"halves": 2, "classes": "k600-zero-shot"}, "one list"),
    ):
        with pytest.raises(VidsslError, match=said):
            zero_shot(encoder, tmp_path / "data", **asked, options=FAST)
    with pytest.raises(VidsslError, match="has 3 classes; at least 4"):
        half_of(class_list(names[:3], "three"), 0)
