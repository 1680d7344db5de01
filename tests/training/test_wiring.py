"""What the trainer does for an objective beside calling it: constraints, anchors, rates, and what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from vidssl.config import load_config
from vidssl.objectives.ldm.objective import LDM
from vidssl.objectives.leaks import leaks
from vidssl.training import monitor
from vidssl.training import setup as run
from vidssl.training.loop import Trainer

LDM_RECIPE = [
    "objective={ldm: {projector: [16, 4], lr_multiplier: 1.0}}",
    "views.0.frames=8",
    "train.steps=2",
]


def trainer(recipe: Path, *overrides: str) -> Trainer:
    return Trainer(load_config(recipe, overrides), Accelerator(cpu=True), resume=False)


def test_constraints_are_restored_after_every_step(recipe: Path) -> None:
    made = trainer(recipe, *LDM_RECIPE)
    [(_, objective)] = made.objective.items()
    assert isinstance(objective, LDM)
    transition: Any = objective.model.transition
    with torch.no_grad():
        for parameter in transition.parameters():
            parameter.mul_(1.5)
    assert objective.model.spectral_radius() > 1.1
    made.train()
    assert objective.model.spectral_radius() < 1.03


def test_layer_decay_reaches_the_optimiser(recipe: Path) -> None:
    made = trainer(recipe, "train.layer_decay=0.5", "train.pretrained_lr_scale=0.2")
    scales = {group["lr_scale"] for group in made.optimizer.param_groups}
    assert scales >= {1.0, 0.2, 0.2 * 0.5, 0.2 * 0.25}  # heads, last block, first block, embeddings


def test_anchors_are_the_encoder_before_training(recipe: Path, tmp_path: Path) -> None:
    words = tmp_path / "words.json"
    words.write_text(json.dumps({"growing": ["It fills the frame."], "falling": ["It sinks to the bottom."]}))
    concept = f"objective={{concept: {{vocabulary: {words}, log_drift: true}}}}"
    folder = trainer(recipe, concept, "train.pretrained_lr_scale=1.0").train()
    logs = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    cosines = [log["concept/anchor_cosine"] for log in logs]
    assert cosines[0] == pytest.approx(1, abs=1e-5)
    assert cosines[-1] < 0.9999


@pytest.mark.parametrize(
    ("options", "pooled", "said"),
    [
        ({}, 1, "model.options.causal=true"),
        ({"causal": True}, 1, None),
        ({"chunk_frames": 2}, 1, "objective.ldm.pool_frames=2"),
        ({"chunk_frames": 2}, 2, None),
    ],
)
def test_a_prediction_that_has_seen_its_target_is_named(
    options: dict[str, Any], pooled: int, said: str | None, recipe: Path
) -> None:
    overrides = [*LDM_RECIPE, f"model.options={json.dumps(options)}", f"objective.ldm.pool_frames={pooled}"]
    student, objective = run.build_student(load_config(recipe, overrides))
    found = leaks(student, objective)
    assert [said in line for line in found] == ([] if said is None else [True])


def test_flat_concept_targets_are_said_in_words() -> None:
    logs = {"c/marginal_entropy_category": 1.0, "c/entropy_category": 0.99, "c/clips": 500.0}
    assert "flat" in (monitor.warning(logs, dim=32) or "")
    assert monitor.warning({**logs, "c/entropy_category": 0.5}, dim=32) is None
