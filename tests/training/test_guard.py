"""Steps whose loss or gradient is not finite, for every objective and on two processes: as if they had not been."""

from __future__ import annotations

import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file
from torch.nn.modules.batchnorm import _BatchNorm

from tests.distributed_runner import run_on_processes
from tests.tiny_towers import write_tower
from tests.training.small_runs import WORDS, assert_same, log_of, weights_of
from vidssl.config import load_config
from vidssl.distributed import gather_objects, rank
from vidssl.errors import VidsslError
from vidssl.objectives.base import ObjectiveOutput
from vidssl.objectives.composite import OBJECTIVES
from vidssl.training import loop, pretrain
from vidssl.training.guard import BeforeStep
from vidssl.training.loop import train_step
from vidssl.training.report import Report
from vidssl.training.setup import Run, set_up

HEAD = {"projector": [32, 8], "norm": "batch"}
OPTIONS: dict[str, dict[str, Any]] = {
    "hsic": {**HEAD, "predictor": [32, 8], "estimator": "rff", "num_features": 16},
    "spectral": HEAD,
    "temporal_spectral": HEAD,
    "ressl": {**HEAD, "queue_size": 20},
    "ldm": {"projector": [32, 4], "drop_frames": 0.3},
    "concept": {"prior": "center"},
    "phases": {"vocabulary": "motions"},
    "sigreg": {**HEAD, "num_directions": 16},
    "temporal_infonce": HEAD,
    "infonce": HEAD,
    "byol": {**HEAD, "predictor": [32, 8]},
    "simsiam": {**HEAD, "predictor": [32, 8]},
    "vicreg": HEAD,
    "barlow": HEAD,
    "dino": {**HEAD, "prototypes": 12},
}


def test_every_objective_is_tried() -> None:
    assert OPTIONS.keys() == OBJECTIVES.keys()


def objective_of(name: str, folder: Path) -> str:
    options = dict(OPTIONS[name])
    if name == "concept":
        words = folder / "words.json"
        words.write_text(json.dumps(WORDS))
        options["vocabulary"] = str(words)
    return f"objective={json.dumps({name: options})}"


def poison_videos(run: Run) -> None:
    """One pixel of this process's first clip is not a number."""
    render = run.render

    def poisoned(batch):
        views = render(batch)
        views[0][0, 0, 0, 0, 0] = torch.nan
        return views

    run.render = poisoned  # type: ignore[method-assign]


def poison_gradient(run: Run) -> None:
    """This process's gradient overflows on its way to the first weights, after a loss that is finite."""
    first = next(p for p in run.student.encoder.parameters() if p.requires_grad)
    first.register_hook(lambda gradient: gradient * torch.inf)


POISONS = {"loss": poison_videos, "gradient": poison_gradient}


def everything(run: Run) -> dict[str, torch.Tensor]:
    """All tensors of a run: student, teacher, objective with its draws, moments, draws of stochastic depth."""
    optimizer = run.optimizer.state_dict()["state"]
    parts = {"student": run.student, "teacher": run.teacher, "objective": run.objective}
    tensors = {f"{part}.{key}": x for part, module in parts.items() for key, x in module.state_dict().items()}
    tensors |= {f"moments.{i}.{key}": x for i, state in optimizer.items() for key, x in state.items()}
    return {key: x.clone() for key, x in {**tensors, "draws": torch.get_rng_state()}.items()}


def good_step_then_poisoned(recipe: str, overrides: list[str], poison: str, poisoned_rank: int) -> list[str]:
    """What the poisoned step changed; it must be skipped."""
    run = set_up(load_config(recipe, overrides), Accelerator(cpu=True))
    batches = [batch for batch, _ in islice(run.batches(), 2)]
    report = Report(run)
    loop.warm_start(run)
    start = everything(run)
    train_step(run, batches[0], report)
    before = everything(run)
    assert any(not torch.equal(start[key], before[key]) for key in start)
    assert run.skipped == 0
    if rank() == poisoned_rank:
        POISONS[poison](run)
    torch.rand(3)  # as stochastic depth would; what the step itself draws has to be put back
    before["draws"] = torch.get_rng_state()
    logs = train_step(run, batches[1], report)
    report.close()
    assert run.skipped == 1
    assert run.step == 2
    assert bool(logs["loss"].isfinite()) == (poison == "gradient")
    assert not any(p.grad is not None for p in [*run.student.parameters(), *run.objective.parameters()])
    after = everything(run)
    return [key for key in before if not torch.equal(before[key], after[key])]


@pytest.mark.parametrize("poison", list(POISONS))
@pytest.mark.parametrize("name", list(OPTIONS))
def test_a_skipped_step_changes_nothing(recipe: Path, tmp_path: Path, name: str, poison: str) -> None:
    assert good_step_then_poisoned(str(recipe), [objective_of(name, tmp_path)], poison, 0) == []


def test_what_is_frozen_is_not_copied_at_every_step(recipe: Path, tmp_path: Path) -> None:
    """Batch norm of a frozen image model takes no statistics, of the projector it does; a skipped step changes neither."""
    tower = write_tower(tmp_path / "resnet", "resnet")
    frozen = [
        f"model.name=local-dir:{tower}",
        f"model.pretrained=local-dir:{tower}",
        "model.freeze=all_but_temporal",
    ]
    overrides = [*frozen, "model.temporal=convolutions", objective_of("vicreg", tmp_path)]
    assert good_step_then_poisoned(str(recipe), overrides, "loss", 0) == []
    run = set_up(load_config(recipe, [*overrides, f"output={tmp_path / 'other'}"]), Accelerator(cpu=True))
    kept = [layer for layer, (buffers, _) in BeforeStep(run)._kept if buffers]
    trunk = [layer for layer in run.student.encoder.modules() if isinstance(layer, _BatchNorm)]
    projector = [layer for layer in run.student.heads.modules() if isinstance(layer, _BatchNorm)]
    assert len(trunk) > 10
    assert not {*trunk, *run.averaged.encoder.modules()} & {*kept}
    assert projector
    assert {*projector} < {*kept}
    trunk[0].train()  # were it not frozen after all
    assert trunk[0] in [layer for layer, (buffers, _) in BeforeStep(run)._kept if buffers]
    run.close()


def on_this_process(recipe: str, overrides: list[str], poison: str) -> list[list[str]]:
    # What accelerate wants to know before it joins the group that is there.
    os.environ |= {"RANK": str(rank()), "LOCAL_RANK": str(rank()), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "0"}
    changed = good_step_then_poisoned(recipe, overrides, poison, poisoned_rank=1)
    assert AcceleratorState().num_processes == 2
    return gather_objects(changed)


@pytest.mark.parametrize("poison", list(POISONS))
@pytest.mark.parametrize("name", ["hsic", "ressl", "dino"])
def test_both_processes_skip_what_is_broken_on_one(
    recipe: Path, tmp_path: Path, name: str, poison: str
) -> None:
    args = str(recipe), [objective_of(name, tmp_path)], poison
    for changed in run_on_processes(on_this_process, 2, *args, time_limit=200.0):
        assert changed == [[], []]


def test_a_run_with_a_skipped_step_is_one_that_left_it_out(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, after three more steps of an objective with a queue and batch norm."""
    overrides = [objective_of("ressl", tmp_path), "train.log_every=100"]
    original, made = loop.train_step, {}

    def poisoned(run: Run, batch: Any, report: Report) -> Any:
        if run.step != 2:
            return original(run, batch, report)
        poison_videos(run)
        logs = original(run, batch, report)
        del run.render  # the poisoned one of this instance
        return logs

    def left_out(run: Run, batch: Any, report: Report) -> Any:
        if run.step != 2:
            return original(run, batch, report)
        run.step += 1
        return {"loss": torch.zeros(())}

    for step in (poisoned, left_out):
        monkeypatch.setattr(loop, "train_step", step)
        made[step] = pretrain(load_config(recipe, [*overrides, f"output={tmp_path / step.__name__}"]))
    assert_same(*(weights_of(run) for run in made.values()))
    skipped = log_of(made[poisoned])[2]
    assert (skipped["step"], skipped["skipped"], skipped["loss"]) == (3, 1, None)
    assert len(skipped["skipped_videos"]) == 8
    assert all(Path(video).is_file() for video in skipped["skipped_videos"])
    assert "skipped" not in log_of(made[poisoned])[3]


def test_a_warm_start_from_broken_weights_is_refused(recipe: Path, tmp_path: Path) -> None:
    """Its statistics would make every later loss NaN."""
    run = set_up(load_config(recipe, [objective_of("concept", tmp_path)]), Accelerator(cpu=True))
    with torch.no_grad():
        next(run.averaged.encoder.parameters()).fill_(torch.nan)
    before = {key: x.clone() for key, x in run.objective.state_dict().items()}
    with pytest.raises(VidsslError, match="features of the first 24 videos are not finite before any step"):
        loop.warm_start(run)
    assert_same(before, run.objective.state_dict())


def test_nonfinite_losses_are_skipped_then_fatal(recipe, monkeypatch):
    original = loop.compute_loss

    def poisoned(*arguments):
        output = original(*arguments)
        return ObjectiveOutput(output.loss * float("nan"), output.logs)

    monkeypatch.setattr(loop, "compute_loss", poisoned)
    run = pretrain(load_config(recipe))  # six steps: fewer than the limit
    assert torch.equal(
        load_file(run / "initial/model.safetensors")["visual.proj"],
        weights_of(run)["encoder/model.safetensors:visual.proj"],
    )
    with pytest.raises(VidsslError, match=r"20 times in a row, the last time for .*\.mp4 and 3 more"):
        pretrain(load_config(recipe, ["train.steps=30", f"output={run.parent / 'long'}"]))


def test_a_diverging_run_ends_in_one_line(recipe: Path) -> None:
    """The features' diagnostics of the logged steps do not come before the guard."""
    hot = ["train.lr=1e30", "train.steps=30", "train.clip_grad=null", "train.pretrained_lr_scale=1"]
    with pytest.raises(VidsslError, match="20 times in a row"):
        pretrain(load_config(recipe, hot))
