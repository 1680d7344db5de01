from __future__ import annotations

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from accelerate import Accelerator

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.distributed import rank, world_size
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, knn, zero_shot
from vidssl.files import newest_checkpoint
from vidssl.models.weights import read_tensors
from vidssl.training import pretrain
from vidssl.training.loop import train
from vidssl.training.setup import set_up


@pytest.fixture
def asked(sprites: Path) -> list[str]:
    part = f"train: {sprites / 'train'}, val: {sprites / 'val'}"
    return [f"evaluate={{{part}, every: 2, k: 3, protocols: [knn, zero_shot]}}", "train.checkpoint_every=3"]


def weights(run: Path) -> dict[str, torch.Tensor]:
    place = newest_checkpoint(run)
    return {
        f"{file.name} {name}": tensor
        for file in (
            place / "student.safetensors",
            place / "optimizer.safetensors",
            place / "random.safetensors",
        )
        for name, tensor in read_tensors(file).items()
    }


def test_training_does_not_notice_it_and_the_scores_are_those_of_the_commands(
    recipe, asked, sprites, tmp_path
) -> None:
    plain = pretrain(load_config(recipe))
    random.seed(3), np.random.seed(3)  # noqa: NPY002
    drawn, numbers = random.getstate(), np.random.get_state()[1].copy()  # noqa: NPY002
    run = pretrain(load_config(recipe, [f"output={tmp_path / 'other'}", *asked]))
    assert random.getstate() == drawn
    assert (np.random.get_state()[1] == numbers).all()  # noqa: NPY002
    own, others = weights(run), weights(plain)
    assert own.keys() == others.keys()
    assert all(torch.equal(own[name], others[name]) for name in own)
    rows = {row["step"]: row for row in log_of(run)}
    assert [step for step, row in rows.items() if "evaluation/knn" in row] == [2, 4, 6]
    options = EvalOptions(clips=1, workers=0, device="cpu", cache=False)
    last = knn(run, sprites / "train", sprites / "val", k=[3], options=options)["scores"]["trained, k = 3"]
    assert rows[6]["evaluation/knn"] == pytest.approx(last["top1"])
    named = zero_shot(run, sprites / "val", options=options)["scores"]["trained"]
    assert rows[6]["evaluation/zero_shot"] == pytest.approx(named["top1"])
    best = json.loads((run / "best.json").read_text())
    scores = {step: rows[step]["evaluation/knn"] for step in (2, 4, 6)}
    assert best["score"] == pytest.approx(max(scores.values()))
    assert best["step"] == max(scores, key=lambda step: (scores[step], -step))
    kept = knn(run / "best", sprites / "train", sprites / "val", k=[3], options=options)["scores"][
        "trained, k = 3"
    ]
    assert kept["top1"] == pytest.approx(best["score"])


def scores_of(recipe: str, overrides: list[str]) -> list[float]:
    """On these processes."""
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": str(world_size())}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    run = train(set_up(load_config(recipe, overrides), Accelerator(cpu=True)))
    dist.barrier()
    return [row["evaluation/knn"] for row in log_of(run) if "evaluation/knn" in row]


def test_two_processes_say_what_one_says(recipe, asked, tmp_path) -> None:
    changes = [*asked, "evaluate.every=6"]
    run = pretrain(load_config(recipe, [f"output={tmp_path / 'one'}", *changes]))
    alone = [row["evaluation/knn"] for row in log_of(run) if "evaluation/knn" in row]
    two = [f"output={tmp_path / 'two'}", *changes]
    assert run_on_processes(scores_of, 2, str(recipe), two, time_limit=200.0) == 2 * [pytest.approx(alone)]
    assert len(alone) == 1


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("{train: a, val: b, every: 1, metric: zero_shot}", "metric zero_shot is not among protocols"),
        ("{train: a, val: b}", "evaluate.every: missing"),
        ("{train: a, val: b, evry: 1}", "did you mean 'every'"),
    ],
)
def test_a_mistake_in_the_section_is_named(recipe, section, said) -> None:
    with pytest.raises(VidsslError, match=said):
        load_config(recipe, [f"evaluate={section}"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("val=nowhere", r"evaluate\.val: .*nowhere"),
        ("val=TRAIN", r"evaluate\.val: .*is evaluate\.train"),
    ],
)
def test_what_is_wrong_with_its_videos_is_found_before_the_run_begins(
    recipe, asked, sprites, tmp_path, change, said
) -> None:
    override = f"evaluate.{change.replace('TRAIN', str(sprites / 'train'))}"
    with pytest.raises(VidsslError, match=said):
        pretrain(load_config(recipe, [*asked, override]))
    assert not (tmp_path / "run").exists()


def test_videos_that_vanish_do_not_end_a_run(recipe, asked, monkeypatch, capsys) -> None:
    def gone(*_, **__):
        raise VidsslError("videos: no such folder")

    monkeypatch.setattr("vidssl.training.periodic.read_splits", gone)
    assert len(log_of(pretrain(load_config(recipe, asked)))) == 6
    assert "step 2: not evaluated: videos: no such folder" in "".join(capsys.readouterr())


def test_zero_shot_without_a_text_tower_is_refused_before_the_run_begins(recipe, asked, tmp_path) -> None:
    changes = ["model={name: conv3d/small}", "train.accumulation=1", *asked]
    with pytest.raises(VidsslError, match=r"zero_shot: model.name=conv3d/small has no text tower"):
        pretrain(load_config(recipe, changes))
    assert not (tmp_path / "run").exists()
