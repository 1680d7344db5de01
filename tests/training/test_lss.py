"""The recipes with a concept space, run for a few steps on rendered videos with a tiny CLIP."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vidssl
from vidssl.config import load_config
from vidssl.models.student import Student
from vidssl.training import pretrain

WORDS = {
    "moving right": ["A shape slides towards the right edge."],
    "moving left": ["A shape slides towards the left edge."],
    "growing": ["It fills more of the frame every moment.", "Its outline widens."],
    "spinning": ["The top of a shape points elsewhere in every frame."],
}
# Every recipe at the size of the tiny CLIP; what a recipe says of views, objectives and the rest stays.
SIZES = {
    "lss_small": ["views.0.frames=4", "views.0.size=32", "views.1.frames=2", "views.1.size=16"],
    "lss_vit_b16": [
        "views.0.size=32",
        *(f"views.{view}.size=16" for view in range(1, 5)),
        "train.epochs=null",
    ],
    "hsic_lss_kalman": [
        "views.0.size=32",
        "views.1.size=16",
        "train.epochs=null",
        "objective.hsic.projector=[32, 16]",
        "objective.hsic.predictor=[32, 16]",
        "objective.ldm.projector=[32, 4]",
        "objective.ldm.state_dim=8",
    ],
}


@pytest.fixture
def overrides(sprites: Path, tiny_clip: Path, tmp_path: Path):
    words = tmp_path / "motions.json"
    words.write_text(json.dumps(WORDS))

    def make(recipe: str, *more: str) -> list[str]:
        return [
            *SIZES[recipe],
            f"output={tmp_path / 'run'}",
            f"data.train={sprites / 'train'}",
            "data.decode_size=32",
            "data.workers=0",
            f"model.name=local-dir:{tiny_clip}",
            f"model.pretrained=local-dir:{tiny_clip}",
            f"objective.concept.vocabulary={words}",
            "train.batch_size=8",
            "train.steps=4",
            "train.lr=1e-3",
            "train.precision=fp32",
            "train.log_every=1",
            "train.checkpoint_every=2",
            *more,
        ]

    return make


def log_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {
        f"{file.relative_to(folder)}:{name}": tensor
        for file in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


@pytest.mark.parametrize("recipe", list(SIZES))
def test_the_recipe_trains(recipe, overrides):
    config = load_config(recipe, overrides(recipe))
    run = pretrain(config)
    last = log_of(run)[-1]
    names = list(config.objective)
    losses = [last[f"{name}/loss"] * config.objective[name].get("weight", 1.0) for name in names]
    assert last["loss"] == pytest.approx(sum(losses), rel=1e-4)
    assert {
        "concept/distillation_category",
        "concept/distillation_description",
        "concept/spaces_agree",
    } <= set(last)
    before, after = tensors_of(run / "initial"), tensors_of(run / "checkpoints/step_00000004/encoder")
    moved = {key.split(":")[1] for key in before if not torch.equal(before[key], after[key])}
    kept = {key.split(":")[1] for key in before} - moved
    # The map into the space of the words, and the words' own tower, are what gives features their meaning.
    assert {"visual.proj", "visual.ln_post.weight", "visual.ln_post.bias"} <= kept
    assert not any(
        key.startswith("text.safetensors") for key in before if not torch.equal(before[key], after[key])
    )
    assert {"visual.conv1.weight", "temporal.1.fc.weight", "time_embedding"} <= moved


def test_resumed_concept_run_equals_one_never_stopped(overrides, tmp_path):
    """With the running statistics of the priors and of the monitors."""
    whole = pretrain(load_config("lss_small", overrides("lss_small")))
    resumed = tmp_path / "resumed"
    shutil.copytree(whole, resumed)
    shutil.rmtree(resumed / "checkpoints/step_00000004")
    (resumed / "latest.json").write_text('{"checkpoint": "checkpoints/step_00000002"}')
    pretrain(load_config("lss_small", [*overrides("lss_small"), f"output={resumed}"]), resume=True)
    ends = [tensors_of(run / "checkpoints/step_00000004") for run in (whole, resumed)]
    assert ends[0].keys() == ends[1].keys()
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name]), name
    assert [line["loss"] for line in log_of(whole)] == [line["loss"] for line in log_of(resumed)]
    # And they are statistics: the centre of step 2 is not that of step 4.
    centre = "objective.safetensors:objectives.concept.priors.category.mean"
    halfway = tensors_of(whole / "checkpoints/step_00000002")
    assert (ends[0][centre] - halfway[centre]).abs().max() > 0
    assert (
        int(ends[0]["objective.safetensors:objectives.concept.priors.category.steps"]) == 5
    )  # with the warm start


def test_a_frozen_teacher_stays_the_image_model(overrides):
    run = pretrain(load_config("lss_small", overrides("lss_small", "teacher.momentum=1.0")))
    before, after = tensors_of(run / "initial"), tensors_of(run / "checkpoints/step_00000004/encoder")
    assert all(torch.equal(before[key], after[key]) for key in before)
    student = load_file(run / "checkpoints/step_00000004/student.safetensors")
    assert not torch.equal(
        student["encoder.visual.conv1.weight"], after["model.safetensors:visual.conv1.weight"]
    )


@torch.no_grad()
def test_views_of_unlike_frames_and_sizes_are_encoded_as_if_alone(tiny_clip):
    """Places and times are interpolated for each; more frames than the time embedding has rows are no obstacle."""
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}").eval()
    for parameter in encoder.temporal.parameters():  # otherwise attention over time adds nothing yet
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    encoder.time_embedding.normal_(generator=torch.Generator().manual_seed(1))
    shapes = [(8, 32), (2, 16), (8, 32), (16, 16), (4, 24), (2, 16)]
    generator = torch.Generator().manual_seed(2)
    views = [torch.randn(3, 3, frames, size, size, generator=generator) for frames, size in shapes]
    together = Student(encoder, {}).eval()(views).features
    for view, features in zip(views, together, strict=True):
        alone = encoder(view)
        torch.testing.assert_close(features.clip, alone.clip, atol=1e-5, rtol=0)
        assert features.frames.shape == alone.frames.shape == (3, view.shape[2], 32)
