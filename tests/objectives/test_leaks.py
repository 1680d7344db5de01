from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vidssl.config import load_config
from vidssl.objectives.leaks import leaks
from vidssl.training.setup import build_student

LDM_RECIPE = [
    "objective={ldm: {projector: [16, 4], lr_multiplier: 1.0}}",
    "views.0.frames=8",
    "train.steps=2",
]


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
    student, objective = build_student(load_config(recipe, overrides))
    found = leaks(student, objective)
    assert [said in line for line in found] == ([] if said is None else [True])


@pytest.mark.parametrize(
    ("chunk", "pooled", "said"),
    [
        (None, 1, "model.options.causal=true"),
        (4, 1, None),
        (8, 1, "objective.ldm.pool_frames=2"),
        (8, 2, None),
    ],
)
def test_latents_are_counted_after_the_strides_of_the_network(
    chunk: int | None, pooled: int, said: str | None, recipe: Path
) -> None:
    # Of four frames conv3d/small makes one latent, so that chunks of four have nothing to pool.
    overrides = [
        *LDM_RECIPE,
        "model={name: conv3d/small}",
        "views.0.frames=16",
        f"objective.ldm.pool_frames={pooled}",
    ]
    if chunk is not None:
        overrides.append(f"model.options.chunk_frames={chunk}")
    student, objective = build_student(load_config(recipe, overrides))
    found = leaks(student, objective)
    assert [said in line for line in found] == ([] if said is None else [True])
