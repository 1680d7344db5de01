"""The demo from the first video to the picture.

1. render real mp4 files of moving shapes whose classes are motions, so that no single frame tells the class;
2. train a video encoder from scratch on them with SSL-HSIC, without their labels; a linear probe, before and after;
3. meanwhile, in a second process: train a small CLIP on captioned single frames (it knows shapes, colours and places, but
   no motion), and teach it to name motions by distillation in the order of time; zero-shot classification, before and after;
4. fit a linear state-space model to what the CLIP sees of single frames, and forecast;
5. draw all of it.

The numbers are whatever comes out; benchmarks/demo.py repeats them over seeds, with controls.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import typer

from vidssl.config import load_config
from vidssl.demo import naming
from vidssl.demo.folder import RESULT, claimed
from vidssl.demo.forecast import forecast_frames
from vidssl.demo.picture import PICTURE, draw
from vidssl.evaluation import EvalOptions, linear_probe
from vidssl.evaluation.report import show_result
from vidssl.files import write_json
from vidssl.synthetic.motions import write_sprite_dataset
from vidssl.training import pretrain

TRAIN_CLIPS, VAL_CLIPS = 60, 30  # of each of the eight classes
FRAMES, SHOTS, SIZE = 24, 3, 48  # of a video; a view is as long as a shot
PARTS = ("videos", "run", *naming.PARTS, PICTURE, RESULT)
# A video is shown as one clip of each shot.
OPTIONS = EvalOptions(clips=SHOTS, batch_size=60, workers=0)


def run_demo(folder: Path, seed: int = 0) -> dict[str, Any]:
    """Run all parts into `folder`; an earlier demo there is replaced once this one is complete.

    Returns:
        `seconds` of the clock and `cpu_seconds` of both processes, the results of ``linear-probe`` and ``zero-shot``, that of
        the forecast, and `picture`, None without matplotlib.

    Raises:
        VidsslError: when `folder` holds something that is not a demo.
        Stopped: when it was told to stop while it trained.
    """
    with claimed(folder, PARTS):
        return _run(folder, seed)


def _run(folder: Path, seed: int) -> dict[str, Any]:
    started, videos = (time.perf_counter(), _cpu_seconds()), folder / "videos"
    typer.echo("two to three minutes on two idle cores, about five beside other work")
    with _one_thread():
        with _part(f"rendering {8 * (TRAIN_CLIPS + VAL_CLIPS)} videos of 8 motions"):
            write_sprite_dataset(
                videos,
                clips_per_class_train=TRAIN_CLIPS,
                clips_per_class_val=VAL_CLIPS,
                frames=FRAMES,
                shots=SHOTS,
                size=SIZE,
                texture=0.0,
                seed=seed,
            )
        with naming.second_process(folder, seed) as other:
            with _part("training a video encoder with SSL-HSIC, from scratch and without labels"):
                train = ("output", folder / "run"), ("seed", seed), ("data.train", videos / "train")
                run = pretrain(load_config("demo", [f"{key}={value}" for key, value in train]))
            with _part("probing it"):
                probed = linear_probe(run, videos / "train", videos / "val", options=OPTIONS)
            with _part("waiting for the second process: a small CLIP, and the names of motions"):
                other.finish()
        named = json.loads((folder / naming.RESULT).read_text())
        with _part("forecasting what the CLIP will see"):
            forecast = forecast_frames(folder / naming.CLIP, seed)
        results = {"linear-probe": probed, "zero-shot": named, "forecast": forecast.record()}
        for name in ("linear-probe", "zero-shot"):
            show_result(f"{name}: 8 motions, {8 * VAL_CLIPS} videos", results[name])
        typer.echo(forecast.line())
        with _part("drawing"):
            picture = draw(folder, results, forecast, OPTIONS)
    seconds, cpu = time.perf_counter() - started[0], _cpu_seconds() - started[1]
    summary = {"seconds": seconds, "cpu_seconds": cpu, **results, "picture": picture and str(picture)}
    write_json(folder / RESULT, summary)
    typer.echo(
        f"{seconds:.0f} s in all, {cpu:.0f} s of a CPU core; videos, weights and results are in {folder}"
    )
    if picture is not None:
        typer.echo(f"the picture of it: {picture}")
    return summary


@contextmanager
def _one_thread() -> Iterator[None]:
    """Each of the two processes has one: two threads of small layers take many times longer beside a busy core."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _cpu_seconds() -> float:
    """Of this process and of those it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


@contextmanager
def _part(name: str) -> Iterator[None]:
    started = time.perf_counter()
    typer.echo(f"{name} …")
    yield
    typer.echo(f"{name}: {time.perf_counter() - started:.0f} s")
