"""A run on kept features: the same loop, an encoder that is evaluated on videos, and refusals of what does not fit."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import pytest
import torch
import yaml

import vidssl
from tests.training.small_runs import assert_same, log_of, weights_of
from vidssl.config import load_config
from vidssl.data.features.store import read_features
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.evaluation.features.means import extract_features
from vidssl.evaluation.setup import load_subject
from vidssl.training import pretrain
from vidssl.training.recipes.dry_run import dry_run

VIEW = ViewSpec("global", 2, 6, size=32, scale=(0.5, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory, sprites: Path, tiny_clip: Path) -> Path:
    """Six frames of each rendered video and of one that cannot be read."""
    folder = tmp_path_factory.mktemp("features")
    shutil.copytree(sprites / "train", folder / "videos")
    (folder / "videos" / "growing" / "broken.mp4").write_bytes(b"was never a video")
    options = EvalOptions(frames=6, size=32, workers=0, device="cpu")
    file = folder / "kept" / "train.safetensors"
    extract_draws(f"local-dir:{tiny_clip}", folder / "videos", file, view=VIEW, grid=2, options=options)
    return file.parent


@pytest.fixture
def recipe(tmp_path: Path, features: Path, tiny_clip: Path) -> Path:
    data = {
        "output": str(tmp_path / "run"),
        "data": {"features": str(features), "window_seconds": None},
        "views": [{"frames": 4, "seconds": 0.8, "size": 32}],
        "model": {
            "name": f"local-dir:{tiny_clip}",
            "pretrained": f"local-dir:{tiny_clip}",
            "temporal": "head",
            "freeze": "all_but_temporal",
            "options": {"head_width": 16, "head_grid": 2},
        },
        "objective": {"hsic": {"gamma": 1.0, "projector": [32, 16], "predictor": [32, 16]}},
        "teacher": {"momentum": 0.5},
        "train": {
            "batch_size": 8,
            "steps": 6,
            "lr": 3e-3,
            "checkpoint_every": 3,
            "log_every": 1,
            "precision": "fp32",
        },
    }
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(data))
    return file


def test_a_run_on_features_is_an_encoder_of_videos(recipe: Path, features: Path, sprites: Path) -> None:
    run = pretrain(load_config(recipe))
    assert len(log_of(run)) == 6
    assert "growing/broken.mp4" in (run / "quarantine.csv").read_text()
    encoder, initial = vidssl.load_encoder(run), vidssl.load_encoder(run / "initial")
    changed = {
        name for name, x in encoder.state_dict().items() if not torch.equal(x, initial.state_dict()[name])
    }
    assert changed
    assert all("temporal_head" in name for name in changed)
    # What evaluation makes of whole videos, from their frames and from what was kept of them.
    options = EvalOptions(frames=6, seconds=math.inf, size=32, workers=0, device="cpu", cache=False)
    index = VideoIndex.read(sprites / "train")
    found = extract_features(load_subject(run, options), index, description="test").features["trained"]
    store = read_features(features)
    with torch.no_grad():
        kept = torch.stack([encoder(store.rows(video)[:1]).clip[0] for video in range(len(store.index))])
        before = torch.stack([initial(store.rows(video)[:1]).clip[0] for video in range(len(store.index))])
    assert store.index.paths == index.paths
    torch.testing.assert_close(kept, found, atol=1e-5, rtol=0)
    assert (kept - before).abs().max() > 1e-3
    sampling = encoder.spec["sampling"]
    assert (sampling["frames"], sampling["seconds"], sampling["size"]) == (4, 0.8, 32)


def test_a_resumed_run_is_the_run(recipe: Path, tmp_path: Path) -> None:
    whole = pretrain(load_config(recipe))
    begun = pretrain(load_config(recipe, [f"output={tmp_path / 'other'}"]))
    for name in ("step_00000006",):
        shutil.rmtree(begun / "checkpoints" / name)
    (begun / "latest.json").unlink()
    again = pretrain(load_config(begun / "config.yaml"), resume=True)
    assert_same(weights_of(whole), weights_of(again))
    assert [row["loss"] for row in log_of(again)] == [row["loss"] for row in log_of(whole)]


def test_other_features_are_another_condition(recipe: Path, features: Path, tmp_path: Path) -> None:
    run = pretrain(load_config(recipe))
    moved = shutil.copytree(features, tmp_path / "moved")
    pretrain(load_config(run / "config.yaml", [f"data.features={moved}"]), resume=True)  # wherever they lie
    names = json.loads((moved / "train.json").read_text())
    names["videos"][1]["times"][0] += 0.01
    (moved / "train.json").write_text(json.dumps(names))
    with pytest.raises(VidsslError, match=r"other conditions: data\.digest"):
        pretrain(load_config(run / "config.yaml", [f"data.features={moved}"]), resume=True)


def test_the_frozen_tower_is_neither_run_nor_trained(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vidssl.models.towers.clip import ClipVideoEncoder

    monkeypatch.setattr(ClipVideoEncoder, "features", None)
    cost = dry_run(load_config(recipe))
    assert cost["views"] == [[8, 4, 32 + 4 * 64]] * 2
    assert cost["parameters"]["trained"] < cost["parameters"]["encoder"] + cost["parameters"]["heads"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["model.options.head_grid=3"], "model.options.head_grid: 3: .* has a grid of 2 cells a side"),
        (
            ["model.options.head_layer=0"],
            "model.options.head_layer: 0: .* is of the last layer; leave it out",
        ),
        (["views.0.size=64"], "views.0.size: 64: .* of frames of 32 pixels"),
        (["views.0.frames=7"], "views.0.frames: 7: .* has 6 frames of a video at most"),
        (["views.0.gray_p=0.5"], "views.0.gray_p: has no effect on data.features"),
        (["model.temporal=divided"], "data.features: trains what stands behind a frozen image model"),
        (["model.freeze=none"], "data.features: trains what stands behind"),
        (["data.train=videos"], "data.train: .*together with data.features"),
        (["model.pretrained=null", "model.options.load_weights=false"], "made with other weights"),
        (["data.features=nowhere"], "data.features: nowhere: no features of frames there"),
        (["train.batch_size=64"], "batch_size=64"),
    ],
)
def test_what_does_not_go_together_is_one_line(recipe: Path, changes: list[str], said: str) -> None:
    with pytest.raises(VidsslError, match=said) as raised:
        pretrain(load_config(recipe, changes))
    assert "\n" not in str(raised.value)
    assert not (recipe.parent / "run").exists()
