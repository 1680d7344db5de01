"""Adapting an image model to videos: the shipped recipe on kept features, first to see what it costs, then in earnest."""

from __future__ import annotations

import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from vidssl.config import Config, load_config
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.data.views.spec import ViewSpec
from vidssl.errors import VidsslError
from vidssl.evaluation import EvalOptions, extract_draws
from vidssl.files import read_json, write_json
from vidssl.models.encoder import VideoEncoder
from vidssl.models.patches.strides import layers_of
from vidssl.training import pretrain
from vidssl.training.accelerator import make_accelerator
from vidssl.training.recipes.dry_run import measure as measure_step
from vidssl.training.recipes.dry_run import trial
from vidssl.training.sources.views import drawn_view
from vidssl.trying.budget import Costs
from vidssl.trying.encoders import Choice

# As the head of the recipe asks for (a test holds these to it): one draw, frames of 160 pixels, 5 x 5 cells of the last layer with a cell for 16 pixels.
RECIPE, DRAWS, SIDE, GRID, CELL = "adapt_features_small", 1, 160, 5, 16
SAMPLE = 4  # videos that costs are measured on


@dataclass(frozen=True)
class Setting:
    """How videos are shown to the image model, and what the recipe says of the head behind it.

    frames: of every video, spread over all of it; size: pixels a side; grid: cells a side that are kept, of layer (None: the last); batch, steps: the recipe's.
    """

    frames: int
    size: int
    grid: int
    layer: int | None
    batch: int
    steps: int

    def options(self, workers: int) -> EvalOptions:
        """The same for evaluations."""
        return EvalOptions(frames=self.frames, seconds=math.inf, size=self.size, workers=workers)


def setting_for(encoder: VideoEncoder) -> Setting:
    """What the recipe asks for, at `SIDE` pixels where the image model takes them, else at its own size."""
    recipe = load_config(RECIPE, ["data.features=features"])
    size = min(SIDE, encoder.image_size)
    try:
        encoder.check_size(1, size)
    except VidsslError:
        size = encoder.image_size
    frames = 2 * max(view.frames for view in recipe.views)
    layers = layers_of(encoder)
    fine = [number for number, one in enumerate(layers) if one.stride <= CELL] or [len(layers) - 1]
    layer = None if fine[-1] == len(layers) - 1 else fine[-1]
    grid = min(GRID, size // layers[fine[-1]].stride)
    return Setting(frames, size, grid, layer, recipe.train.batch_size, recipe.train.steps or 1)


def recipe_for(
    choice: Choice, setting: Setting, features: Path, output: Path, *, batch: int, steps: int, seed: int = 0
) -> Config:
    """The recipe for these features, with as few changes as that takes."""
    views = len(load_config(RECIPE, ["data.features=features"]).views)
    changes: dict[str, Any] = {
        "output": str(output),
        "seed": seed,
        "data.features": str(features),
        "model.name": choice.name,
        "model.pretrained": choice.pretrained,
        "model.options.head_grid": setting.grid,
        **({} if setting.layer is None else {"model.options.head_layer": setting.layer}),
        "train.batch_size": batch,
        "train.steps": steps,
        "train.checkpoint_every": max(steps // 2, 1),
        **{f"views.{number}.size": setting.size for number in range(views)},
    }
    return load_config(RECIPE, [f"{key}={json.dumps(value)}" for key, value in changes.items()])


def draw_features(
    choice: Choice,
    setting: Setting,
    videos: Path,
    file: Path,
    *,
    draws: int,
    seed: int,
    workers: int,
    folder: Path,
) -> dict[str, Any]:
    """Keep the features of the videos of a list; what `extract_draws` returns.

    Args:
        folder: that the videos are of; its name may say that left and right matter, so that nothing is mirrored.
    """
    view, _ = drawn_view([f"count={draws}"], VideoIndex.read(videos).classes, folder)
    return extract_draws(
        choice.source,
        videos,
        file,
        view=ViewSpec(**{**asdict(view), "frames": setting.frames, "size": setting.size}),
        grid=setting.grid,
        layer=setting.layer,
        half=True,
        seed=seed,
        encoder=choice.encoder,
        options=setting.options(workers),
    )


def measure(choice: Choice, setting: Setting, train: VideoIndex, folder: Path, *, workers: int) -> Costs:
    """What a clip and a step cost on this machine, from a few of the videos; nothing is kept.

    Raises:
        VidsslError: for anything that the recipe refuses, such as an image model without a map of its last layer.
    """
    batch = min(setting.batch, len(train))
    with TemporaryDirectory() as place:
        few, file = Path(place) / "few.csv", Path(place) / "few.safetensors"
        rows = np.linspace(0, len(train) - 1, min(SAMPLE, len(train))).round().astype(int).tolist()
        train.subset(rows).write(few)
        started = time.perf_counter()
        draw_features(choice, setting, few, file, draws=DRAWS, seed=0, workers=workers, folder=folder)
        clip = (time.perf_counter() - started) / len(rows) / (1 + DRAWS)
        record = read_json(file.with_suffix(".json"))
        readable = [video for video in record["videos"] if video["tensor"] is not None]
        if not readable:
            raise VidsslError(f"{folder}: none of {len(rows)} videos could be decoded as a whole")
        # As many names as a batch has, so that the step that is timed is a whole one.
        copies = [{**readable[i % len(readable)], "path": f"{i}"} for i in range(batch)]
        write_json(file.with_suffix(".json"), {**record, "videos": copies})
        recipe = recipe_for(choice, setting, file, Path(place) / "run", batch=batch, steps=1)
        with trial(recipe, make_accelerator(recipe), videos=batch) as run:
            step = measure_step(run).seconds
    return Costs(clip, step)


def train(recipe: Config) -> Path:
    """Train, or go on with a run that was stopped; the run folder."""
    return pretrain(recipe, resume=True)
