"""What else a run can ask for, together with weights that are split over two processes: the numbers of whole weights, and a resume
that equals a run never stopped. The rest is in test_sharding.py.

    python -m pytest -s -m slow tests/training/test_sharded_parts.py

shows how far split and whole are apart.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from tests.distributed_runner import run_on_processes
from tests.training.small_runs import WORDS, assert_same, log_of, put_together, tell_accelerate
from vidssl.config import load_config
from vidssl.data.views.spec import ViewSpec
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.files import read_json
from vidssl.runs import load_run
from vidssl.training import loop, pretrain

pytestmark = pytest.mark.slow
LAST = "checkpoints/step_00000004"
COMMON = [
    "train.steps=4",
    "train.checkpoint_every=2",
    "train.keep_checkpoints=9",
    "train.lr=1e-3",
    "teacher.momentum=0.9",
]
# Norms of single rows: a bias before a batch norm has no gradient but rounding, which Adam would make a step of.
SPECTRAL = "objective={spectral: {projector: [32, 16], norm: layer}}"
CONCEPT = "vocabulary: {words}, prior: center, student_temperature: 0.06, teacher_temperature: 0.06"
HSIC = "hsic: {gamma: 1.0, estimator: exact, projector: [32, 16], predictor: [32, 16]}"
LDM = "ldm: {state_dim: 8, entropy: logdet, horizon: 2, reduction: mean, lr_multiplier: 10.0, projector: [32, 4]}"
TOKENS = ["model.options={token_drop: 0.5, activation_checkpointing: true}", "teacher.token_drop=true"]
CASES = {
    "a queue": ["objective={ressl: {projector: [32, 16], queue_size: 20}}"],
    "concepts": [
        f"objective={{concept: {{{CONCEPT}, anchor: 1.0}}}}",
        "model.temporal=divided",
        "train.layer_decay=0.75",
    ],
    "a model of motion": [f"objective={{{LDM}}}", "model.temporal=divided", "model.options={causal: true}"],
    "three objectives": [
        f"objective={{{HSIC}, concept: {{{CONCEPT}}}, {LDM}}}",
        "model.temporal=divided",
        "model.options={causal: true}",
        "model.freeze=projection",
    ],
    "dropped tokens": [SPECTRAL, "model.temporal=divided", *TOKENS],
    "in pieces": [SPECTRAL, "train.accumulation=2", "model.options={activation_checkpointing: true}"],
    "kept features": [
        SPECTRAL,
        "data={features: '{kept}', window_seconds: null}",
        "views=[{frames: 4, seconds: 0.8, size: 32}]",
        "model.temporal=head",
        "model.freeze=all_but_temporal",
        "model.options={head_width: 16, head_grid: 2}",
    ],
    "evaluated": [
        SPECTRAL,
        "evaluate={train: '{sprites}/train', val: '{sprites}/val', every: 2, k: 3, protocols: [knn, zero_shot], metric: zero_shot}",
    ],
    "a step that is skipped": [SPECTRAL],
    "bf16": [SPECTRAL, "train.precision=bf16"],
    "bf16 with a queue": ["objective={ressl: {projector: [32, 16], queue_size: 20}}", "train.precision=bf16"],
}
# Two more runs with whole weights, in pieces: what another order of the same sums does in bfloat16.
HALF = [name for name in CASES if name.startswith("bf16")]


def trained(folder: str, cases: dict[str, list[str]]) -> None:
    """Of each case a run with whole weights, a split one, and that one resumed."""
    tell_accelerate()
    recipe, compute_loss = f"{folder}/recipe.yaml", loop.compute_loss

    def broken(run, *arguments):
        output = compute_loss(run, *arguments)
        return output._replace(loss=output.loss * torch.nan) if run.step == 2 else output

    for name, overrides in cases.items():
        if name == "a step that is skipped":
            loop.compute_loss = broken
        place, wanted = f"{folder}/{name}", [*COMMON, *overrides]
        pretrain(load_config(recipe, [*wanted, f"output={place}/whole"]))
        if name in HALF:
            pretrain(load_config(recipe, [*wanted, "train.accumulation=2", f"output={place}/pieces"]))
        wanted.append("train.shard=true")
        pretrain(load_config(recipe, [*wanted, f"output={place}/split"]))
        if dist.get_rank() == 0:
            shutil.copytree(f"{place}/split", f"{place}/resumed")
            shutil.rmtree(f"{place}/resumed/{LAST}")
        dist.barrier()
        pretrain(load_config(recipe, [*wanted, f"output={place}/resumed"]), resume=True)
        loop.compute_loss = compute_loss


@pytest.fixture(scope="module")
def folder(tmp_path_factory, sprites, tiny_clip) -> Path:
    from tests.conftest import write_recipe

    place = tmp_path_factory.mktemp("parts")
    write_recipe(place, sprites, tiny_clip)
    (place / "words.json").write_text(json.dumps(WORDS))
    kept = place / "kept" / "train.safetensors"
    view, options = (
        ViewSpec("global", 2, 6, size=32, scale=(0.5, 1.0)),
        EvalOptions(frames=6, size=32, workers=0, device="cpu"),
    )
    extract_draws(f"local-dir:{tiny_clip}", sprites / "train", kept, view=view, grid=2, options=options)
    words = {"{words}": place / "words.json", "{kept}": kept.parent, "{sprites}": sprites}
    cases = {}
    for name, overrides in CASES.items():
        cases[name] = overrides
        for word, value in words.items():
            cases[name] = [text.replace(word, str(value)) for text in cases[name]]
    run_on_processes(trained, 2, str(place), cases, time_limit=1200)
    return place


def apart(ours: Path, reference: Path) -> tuple[float, float]:
    """The largest difference of the losses, and of weights and moments of student, teacher and objectives."""
    pairs = zip(log_of(ours), log_of(reference), strict=True)
    losses = [abs(a["loss"] - b["loss"]) for a, b in pairs if a["loss"] is not None]
    weights = []
    for kind in ("student", "teacher"):
        left, right = (load_run(run, weights=kind) for run in (ours, reference))
        for one, other in ((left.student, right.student), (left.objective, right.objective)):
            states = one.state_dict(), other.state_dict()
            assert states[0].keys() == states[1].keys()
            weights += [float((x.double() - states[1][key].double()).abs().max()) for key, x in states[0].items() if x.numel()]  # fmt: skip
    return max(losses), max(weights)


@pytest.mark.parametrize("name", [name for name in CASES if name not in HALF])
def test_split_weights_give_the_numbers_of_whole_ones(folder, name):
    losses, weights = apart(folder / name / "split", folder / name / "whole")
    print(f"{name}: losses {losses:.1e}, weights {weights:.1e}")
    assert losses < 1e-5
    assert weights < 1e-5
    first, last = (log_of(folder / name / "split")[step]["loss"] for step in (0, -1))
    assert abs(first - last) > 1e-3  # there was something to be apart in


@pytest.mark.parametrize("name", HALF)
def test_in_bfloat16_they_are_as_far_apart_as_two_orders_of_sums(folder, name):
    split, pieces = (apart(folder / name / run, folder / name / "whole") for run in ("split", "pieces"))
    print(f"{name}: losses {split[0]:.1e} and weights {split[1]:.1e}, in pieces {pieces[0]:.1e} and {pieces[1]:.1e}")  # fmt: skip
    assert split[0] < 2 * pieces[0] < 2e-2
    assert split[1] < 2 * pieces[1] < 2e-2
    assert log_of(folder / name / "split")[0]["loss"] == log_of(folder / name / "whole")[0]["loss"]


@pytest.mark.parametrize("name", list(CASES))
def test_a_resumed_split_run_equals_one_never_stopped(folder, name):
    split, resumed = folder / name / "split", folder / name / "resumed"
    assert_same(put_together(split / LAST), put_together(resumed / LAST))
    assert [line["loss"] for line in log_of(split)] == [line["loss"] for line in log_of(resumed)]


def test_what_is_evaluated_is_the_same_encoder(folder):
    scores = [read_json(folder / "evaluated" / name / "best.json") for name in ("whole", "split", "resumed")]
    assert scores[0] == scores[1] == scores[2]


def test_a_skipped_step_is_skipped_with_split_weights_too(folder):
    for name in ("whole", "split", "resumed"):
        lines = log_of(folder / "a step that is skipped" / name)
        assert [line.get("skipped", 0) for line in lines] == [0, 0, 1, 0]
