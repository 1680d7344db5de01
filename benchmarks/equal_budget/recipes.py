"""What is the same for all objectives of a set, and the objectives with their own settings and controls."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from vidssl.config import Config, validate_config
from vidssl.evaluation import EvalOptions


class Setting(NamedTuple):
    """What all objectives of a set share; docs/objectives/comparison.md says on which runs it was chosen.

    view: of which two are cut; steps, batch_size, lr: of training; model: the encoder; probed: how it is shown videos.
    """

    view: dict[str, Any]
    steps: int
    batch_size: int
    lr: float
    model: dict[str, Any]
    probed: EvalOptions


class Row(NamedTuple):
    """A row of the table: an objective, and what was done to it where it is a control (see `cell.run_cell`).

    views: "pair", "weak and strong", or "whole": cropped little and not jittered, for what is named is where things are.
    model: what the row needs of the encoder; `CLIP` in it is a small CLIP of frames that the seed's captions trained.
    """

    objective: dict[str, dict[str, Any]]
    control: str | None = None
    views: str = "pair"
    model: dict[str, Any] | None = None


# Those of the demo: views as long as one of a video's shots, without flips, for the classes are directions.
MOTION_VIEW = {"frames": 8, "stride": 1, "size": 32, "scale": [0.4, 1.0], "flip": 0.0, "jitter": [0.6, 0.6, 0.0, 0.0],
               "jitter_p": 1.0, "gray_p": 0.0, "blur_p": 0.0}  # fmt: skip
CLIP_VIEW = {"frames": 8, "seconds": 1.5, "size": 32, "scale": [0.4, 1.0], "flip": 0.5, "jitter": [0.4, 0.4, 0.4, 0.1],
             "jitter_p": 0.8, "gray_p": 0.2, "blur_p": 0.0}  # fmt: skip
SETTINGS = {
    "sprites": Setting(MOTION_VIEW, 250, 64, 5e-3, {"name": "conv3d/small"}, EvalOptions(clips=3)),
    "clips": Setting(
        CLIP_VIEW, 400, 64, 2e-3, {"name": "conv3d/small"}, EvalOptions(frames=16, seconds=math.inf)
    ),
}

HEADS = {"projector": [256, 128]}
PREDICTED = {**HEADS, "predictor": [256, 128]}
HSIC = {
    "kappa": 8.0,
    "gamma_max": 4.5,
    "gamma_memory": 0.95,
    "scale": 1.0,
    "learn_scale": False,
    "estimator": "exact",
    "last_norm": True,
}
ALONE = {**HSIC, "target": False, **HEADS}
FIXED = {**ALONE, "gamma": 3.0, "gamma_max": None, "gamma_memory": 0.0}
# Concepts are named by texts, so these rows start from a CLIP of single frames, that of the demo, which stays as it is.
CLIP = "local-dir:CLIP"
NAMED = {"name": CLIP, "pretrained": CLIP, "temporal": "convolutions", "freeze": "all_but_temporal"}
PHASES = {"vocabulary": "motions", "student_temperature": 0.03, "teacher_temperature": 0.005}
# Latents that have not seen what they are to predict: four frames each, which is what motion takes and one step in time of
# this network. Of single frames they stay at the untrained encoder. The rows named "chunks" show what that alone does.
FOUR_FRAMES = {"options": {"chunk_frames": 4}}
LDM = {"state_dim": 16, "entropy": "knn", "lr_multiplier": 10.0, "projector": [256, 8]}
ROWS = {
    "hsic": Row({"hsic": {**HSIC, **PREDICTED}}),
    "hsic, across views": Row({"hsic": {**HSIC, **HEADS, "same_view_pairs": False}}),
    "hsic, features": Row({"hsic": {**HSIC, "estimator": "rff", **PREDICTED}}),
    "hsic, no teacher": Row({"hsic": ALONE}),
    "hsic, kappa = 1": Row({"hsic": {**ALONE, "kappa": 1.0, "gamma_max": None, "gamma_memory": 0.0, "scale": 0.5}}),
    "hsic, gamma = 3": Row({"hsic": FIXED}),
    "hsic, time-aware": Row({"hsic": {**ALONE, "time_width": 1.0}}),
    "hsic, frames": Row({"hsic": {**ALONE, "frames": True}}),
    "spectral": Row({"spectral": {"mu": 5.0, **HEADS}}),
    "spectral, temporal": Row({"temporal_spectral": {"clip": True, "mu": 5.0, "lag": 1, **HEADS}}),
    "ressl": Row({"ressl": {"queue_size": 512, "norm": "batch", "last_norm": True, **HEADS}}, views="weak and strong"),
    "sigreg": Row({"sigreg": {"sigreg_weight": 0.1, **HEADS}}),
    "sigreg, chunks": Row({"sigreg": {"sigreg_weight": 0.1, **HEADS}}, model=FOUR_FRAMES),
    "ldm": Row({"ldm": LDM}, model=FOUR_FRAMES),
    "hsic, chunks": Row({"hsic": ALONE}, model=FOUR_FRAMES),
    "hsic and ldm": Row({"hsic": ALONE, "ldm": {**LDM, "weight": 0.003}}, model=FOUR_FRAMES),
    "concept": Row({"phases": PHASES}, views="whole", model=NAMED),
    "hsic, concept and ldm": Row(
        {"hsic": ALONE, "phases": PHASES, "ldm": {**LDM, "weight": 0.1}}, views="whole", model=NAMED
    ),
    "infonce": Row({"infonce": {"temperature": 0.2, **HEADS}}),
    "infonce, chunks": Row({"infonce": {"temperature": 0.2, **HEADS}}, model=FOUR_FRAMES),
    "infonce, frames": Row({"temporal_infonce": {**HEADS}}),
    "byol": Row({"byol": {**PREDICTED}}),
    "simsiam": Row({"simsiam": {"last_norm": True, **PREDICTED}}),
    "vicreg": Row({"vicreg": {**HEADS}}),
    "barlow": Row({"barlow": {**HEADS}}),
    "dino": Row({"dino": {"norm": "batch", "prototypes": 512, **HEADS}}),
    "control: hsic, gamma = 0": Row({"hsic": {**ALONE, "kappa": 0.0}}),
    "control: hsic, shuffled identities": Row({"hsic": ALONE}, "identities"),
    "control: hsic, gamma = 3, shuffled identities": Row({"hsic": FIXED}, "identities"),
    "control: infonce, shuffled identities": Row({"infonce": {"temperature": 0.2, **HEADS}}, "identities"),
    "control: sigreg, shuffled identities": Row({"sigreg": {"sigreg_weight": 0.1, **HEADS}}, "identities"),
    "control: hsic, shuffled time": Row({"hsic": ALONE}, "time"),
    "control: hsic, frozen encoder": Row({"hsic": ALONE}, "frozen"),
}  # fmt: skip


def needs_clip(row: str) -> bool:
    """Whether the row starts from a CLIP of frames and not from random weights."""
    return CLIP in (ROWS[row].model or {}).values()


def rows_of(set_name: str) -> list[str]:
    """The rows of a set: real clips have no captioned frames, so none that start from them."""
    return [row for row in ROWS if set_name == "sprites" or not needs_clip(row)]


def recipe(set_name: str, row: str, seed: int, train: Path, clip: Path = Path("clip")) -> Config:
    """The same for all rows but the objective and, for some, how strongly views are altered or what they start from.

    Args:
        clip: folder of the CLIP of frames, for a row that starts from it.
    """
    setting, chosen = SETTINGS[set_name], ROWS[row]
    views: list[dict[str, Any]] = [{**setting.view, "count": 2}]
    if chosen.views == "weak and strong":
        weak = {"count": 1, "scale": [0.7, 1.0], "jitter_p": 0.0, "name": "weak"}
        strong = {"count": 1, "name": "strong", "teacher": False}
        views = [{**setting.view, **weak}, {**setting.view, **strong}]
    if chosen.views == "whole":
        views = [{**setting.view, "count": 2, "scale": [0.7, 1.0], "jitter_p": 0.0}]
    model = {**(setting.model if not needs_clip(row) else {}), **(chosen.model or {})}
    model = {key: f"local-dir:{clip}" if value == CLIP else value for key, value in model.items()}
    return validate_config(
        {
            "output": "run",
            "seed": seed,
            "data": {"train": str(train), "window_seconds": None if set_name == "sprites" else 4.0, "decode_size": 64,
                     "workers": 0, "check": False},
            "views": views,
            "model": model,
            "objective": chosen.objective,
            "teacher": {"momentum": 0.95, "final": 0.95},
            "train": {"batch_size": setting.batch_size, "steps": setting.steps, "lr": setting.lr, "precision": "fp32",
                      "log_every": 20, "checkpoint_every": setting.steps, "warmup": 0.1},
        },
        row,
    )  # fmt: skip


# Raised when the package computes other numbers from the same recipe: 2 is since crops are antialiased.
REVISIONS: dict[str, list[int]] = {"sprites": [2], "clips": [2]}


def fingerprint(set_name: str, row: str) -> str:
    """Of all that a recipe says but its seed and what it leaves at its default: a cell is run again when it changes."""
    config = recipe(set_name, row, 0, Path("videos")).model_dump(mode="json", exclude_defaults=True)
    plain = asdict(EvalOptions())
    shown = {key: str(v) for key, v in asdict(SETTINGS[set_name].probed).items() if v != plain[key]}
    return hashlib.sha256(
        json.dumps([config, ROWS[row].control, shown, *REVISIONS[set_name]], sort_keys=True).encode()
    ).hexdigest()[:12]
