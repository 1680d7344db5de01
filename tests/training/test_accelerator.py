"""accelerate's traps: what would change the numbers in silence is refused, and trackers get what they need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from accelerate import Accelerator, tracking
from accelerate.state import GradientState
from accelerate.utils import LoggerType

from tests.training.small_runs import log_of
from vidssl.config import load_config
from vidssl.errors import VidsslError
from vidssl.training import pretrain
from vidssl.training.setup import set_up


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ACCELERATE_USE_FSDP", "true", "FSDP 1 is not supported"),
        ("ACCELERATE_USE_DEEPSPEED", "true", "DeepSpeed is not supported"),
        (
            "ACCELERATE_GRADIENT_ACCUMULATION_STEPS",
            "4",
            r"gradient_accumulation_steps=4.*train.accumulation=4",
        ),
    ],
)
def test_what_would_train_otherwise_is_refused(recipe, monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    config = load_config(recipe)
    with pytest.raises(VidsslError, match=said):
        pretrain(config)
    assert not Path(config.output).exists()
    monkeypatch.delenv(variable)
    GradientState._reset_state()


def test_somebody_elses_accumulation_is_refused_too(recipe):
    with pytest.raises(VidsslError, match="gradient_accumulation_steps=2"):
        set_up(load_config(recipe), Accelerator(cpu=True, gradient_accumulation_steps=2))
    GradientState._reset_state()


def test_a_tracker_that_is_not_installed_is_an_error_before_the_run(recipe, monkeypatch):
    monkeypatch.setattr(tracking, "_available_trackers", [])
    config = load_config(recipe, ["train.trackers=[tensorboard]"])
    with pytest.raises(VidsslError, match=r"train.trackers: tensorboard is not installed; pip install"):
        pretrain(config)
    assert not Path(config.output).exists()


class RecordingTracker(tracking.GeneralTracker):
    """In TensorBoard's place: needs a folder and takes only scalars."""

    name = "tensorboard"
    requires_logging_directory = True
    seen: dict[str, Any] = {}  # noqa: RUF012 - accelerate makes the instance

    def __init__(self, run_name: str, logging_dir: str) -> None:
        super().__init__()
        self.seen |= {"folder": Path(logging_dir) / run_name, "steps": []}

    def start(self) -> None:
        """Nothing to open."""

    @property
    def tracker(self) -> None:
        """Nothing behind it."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.seen["recipe"] = values

    def log(self, values: dict[str, Any], step: int | None = None) -> None:
        self.seen["steps"].append((step, values))


def test_trackers_get_a_folder_and_scalars(recipe, monkeypatch):
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "tensorboard", RecordingTracker)
    monkeypatch.setattr(tracking, "_available_trackers", [LoggerType.TENSORBOARD])
    run = pretrain(load_config(recipe, ["train.trackers=[tensorboard]"]))
    seen = RecordingTracker.seen
    assert seen["folder"].parent == run
    scalars = bool | int | float | str
    assert all(isinstance(value, scalars) for value in seen["recipe"].values())
    assert seen["recipe"]["train.lr"] == 1e-3
    assert json.loads(seen["recipe"]["views"])[0]["frames"] == 4
    assert seen["recipe"]["objective.hsic.estimator"] == "exact"
    assert [values for _, values in seen["steps"]] == log_of(run)


def test_tensorboard_writes_a_run(recipe):
    pytest.importorskip("tensorboard")
    run = pretrain(load_config(recipe, ["train.trackers=[tensorboard]"]))
    assert list((run / "vidssl").glob("events.out.tfevents*"))
