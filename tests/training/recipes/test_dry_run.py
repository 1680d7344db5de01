from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import yaml

from vidssl.config import load_config
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.resources import resource_folder
from vidssl.training.recipes import dry_run as dry
from vidssl.training.recipes.dry_run import dry_run

LARGE = {
    "hsic", "hsic_lss_kalman", "hsic_published", "lejepa_drop_vit_b16", "long_videos_vit_t16", "lss_vit_b16", "sslhsic_drop_vit_b16",
}  # fmt: skip
HUGE = {"hsic_lss_kalman"}  # two videos of it need 30 GB unless activations are computed again
RECIPES = [
    pytest.param(file, id=file.stem, marks=[pytest.mark.slow] if file.stem in LARGE else [])
    for file in sorted(resource_folder("configs").glob("*.yaml"))
]


def test_a_dry_run_counts_what_a_run_needs_and_leaves_nothing(recipe: Path) -> None:
    config = load_config(recipe, ["train.batch_size=8", "train.steps=100"])
    before = torch.get_rng_state()
    cost = dry_run(config)
    assert not Path(config.output).exists()
    assert (cost["videos"], cost["steps"]) == (24, 100)
    assert all(shape[0] == 8 for shape in cost["views"])
    sizes, counts = cost["bytes"], cost["parameters"]
    assert sizes["gradients"] == 4 * counts["trained"]
    assert sizes["optimizer"] == pytest.approx(2 * sizes["gradients"], rel=0.01)  # two moments
    assert cost["checkpoint"] == sizes["weights"] + sizes["teacher"] + sizes["optimizer"]
    assert sizes["step"] == sum(value for name, value in sizes.items() if name != "step")
    assert cost["seconds"]["run"] == pytest.approx(100 * cost["seconds"]["step"])
    assert before.shape == torch.get_rng_state().shape


def test_it_says_what_would_be_evaluated_and_evaluates_nothing(
    recipe: Path, sprites: Path, monkeypatch
) -> None:
    monkeypatch.setattr("vidssl.training.periodic.Periodic.__call__", None)
    changes = ["train.batch_size=8", "train.steps=100", f"evaluate.train={sprites / 'train'}"]
    assert dry_run(load_config(recipe, changes[:2]))["evaluation"] is None
    cost = dry_run(load_config(recipe, [*changes, f"evaluate.val={sprites / 'val'}", "evaluate.every=30"]))
    assert cost["evaluation"] == {"protocols": ["knn"], "times": 4, "videos": {"train": 24, "val": 9}}


def test_activations_grow_with_the_batch_and_not_with_the_weights(recipe: Path) -> None:
    small, large = (dry_run(load_config(recipe, [f"train.batch_size={n}"]))["bytes"] for n in (4, 8))
    assert large["activations"] == 2 * small["activations"] > 0
    assert large["weights"] == small["weights"]


def test_in_pieces_only_one_of_them_has_activations_beside_the_views(recipe: Path) -> None:
    whole, pieces = (
        dry_run(load_config(recipe, ["train.batch_size=8", f"train.accumulation={n}"])) for n in (1, 4)
    )
    views = sum(4 * math.prod(shape) for shape in whole["views"])
    assert pieces["bytes"]["activations"] == whole["bytes"]["activations"] // 4 + views * 3 // 4


def test_many_clips_of_a_video_are_not_all_made(recipe: Path, monkeypatch) -> None:
    seen: list[int] = []
    real = dry.train_step
    monkeypatch.setattr(
        dry, "train_step", lambda run, batch, report: seen.append(len(batch)) or real(run, batch, report)
    )
    cost = dry_run(load_config(recipe, ["train.batch_size=64", "data.repeats=16", "train.steps=100"]))
    assert seen == [4, 4]
    assert cost["views"][0][0] == 64
    assert cost["seconds"]["step"] == pytest.approx(64 * cost["seconds"]["clip"])


def test_a_loss_that_needs_more_rows_gets_more_videos(recipe: Path) -> None:
    """The determinant of 16 dimensions, of four frames of each."""
    ldm = "objective={ldm: {state_dim: 16, entropy: logdet, projector: [32, 16]}}"
    options = [ldm, "model.options={causal: true}", "model.temporal=divided", "train.steps=10"]
    cost = dry_run(load_config(recipe, [*options, "train.batch_size=8"]))
    assert math.isfinite(cost["loss"])
    assert "measured on 8 clips: a loss needs more rows" in cost["notes"][-1]
    with pytest.raises(VidsslError, match="gaussian_entropy: 16 rows in 16 dimensions"):
        dry_run(load_config(recipe, [*options, "train.batch_size=4"]))


def test_what_a_run_would_refuse_is_refused(recipe: Path) -> None:
    with pytest.raises(VidsslError, match="no such"):
        dry_run(load_config(recipe, ["data.train=nowhere"]))
    config = load_config(recipe)
    Path(config.output).mkdir()
    (Path(config.output) / "file").touch()
    with pytest.raises(VidsslError, match="is not empty"):
        dry_run(config)


@pytest.mark.parametrize("file", RECIPES)
def test_every_recipe_that_ships_dry_runs(file: Path, sprites: Path, tiny_clip: Path, tmp_path: Path) -> None:
    changes = [f"data.train={sprites / 'train'}", "data.workers=0"]
    if "features" in yaml.safe_load(file.read_text())["data"]:
        changes = [f"data.features={kept_features(sprites, tiny_clip, tmp_path)}"]
    config = load_config(file, changes)
    if config.model.name.startswith("local-dir:"):
        changes += [f"model.name=local-dir:{tiny_clip}", f"model.pretrained=local-dir:{tiny_clip}"]
    if file.stem in HUGE:
        changes += ["model.options.activation_checkpointing=true"]
    cost = dry_run(load_config(file, changes), random_weights=True)
    assert cost["loss"] == pytest.approx(cost["loss"])  # a number
    assert "random weights" in cost["notes"][0]


@pytest.mark.parametrize(
    "file", sorted(resource_folder("configs").glob("*.yaml")), ids=lambda file: file.stem
)
def test_a_recipe_says_where_it_is_from_what_to_expect_and_what_it_costs(file: Path) -> None:
    lines = file.read_text().splitlines()
    said = lines[: next(number for number, line in enumerate(lines) if not line.startswith("#"))]
    for word in ("# Source: ", "# Expected: ", "# Cost: "):
        assert any(line.startswith(word) and len(line) > len(word) for line in said), word
    assert any(line.startswith("#   vidssl pretrain ") and file.name in line for line in said)
    page = (
        (file.parents[1] / "docs" / "recipes.md").read_text()
        if (file.parents[1] / "docs").is_dir()
        else file.stem
    )
    assert f"| `{file.stem}` |" in page or page == file.stem


def kept_features(sprites: Path, tiny_clip: Path, folder: Path) -> Path:
    """Of the videos and the model that stand for those of a recipe."""
    view, options = ViewSpec("global", 1, 8, size=64), EvalOptions(frames=8, size=64, workers=0, device="cpu")
    extract_draws(
        f"local-dir:{tiny_clip}", sprites / "val", folder / "f.safetensors", view=view, options=options
    )
    return folder
