"""`vidssl doctor`: versions, devices, and which optional parts work on this machine and why the others do not."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from vidssl.data.decode.choice import decoder_order, remember
from vidssl.data.decode.measure import measure_decoders
from vidssl.data.decode.open import open_video
from vidssl.data.encode import write_video
from vidssl.data.manifest.manifest import VideoIndex
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.models.towers.families import families
from vidssl.progress import progress_bar
from vidssl.resources import resource_folder

# What each import is for; the ones without a package of their own name are extras: pip install "vidssl[extra]".
PARTS = {
    "open_clip": "image and text towers",
    "transformers": "language models that write prompts",
    "pytorchvideo.models": "R3D, X3D, SlowFast and MViT backbones",
    "lightly.loss": "baseline objectives, extra `lightly`",
    "timm": "image backbones, extra `timm`",
    "openai": "language models on a server, extra `openai`",
    "tensorboard": "tracker, extra `tensorboard`",
    "wandb": "tracker, extra `wandb`",
    "matplotlib": "plots, extra `plots`",
    "sklearn.linear_model": "scores of disentanglement that fit classifiers, extra `probes`",
}

SAMPLE = 8  # files that are measured of a folder or list


def diagnose() -> dict[str, Any]:
    """Everything that `show` prints, as plain data."""
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        **environment(),
        "devices": {"cpu_threads": torch.get_num_threads(), "cores": os.cpu_count(), "cuda": cuda},
        "decoders": {name: _decoder(name) for name in ("decord", "pyav", "torchcodec")},
        "decoder_order": list(decoder_order()),
        "parts": {name: _imports(name) for name in PARTS},
        "ffmpeg": shutil.which("ffmpeg"),
        "configs": sorted(file.name for file in resource_folder("configs").glob("*.yaml")),
        "config_folder": str(resource_folder("configs")),
    }


def show(report: Mapping[str, Any]) -> None:
    """Print the report for a person."""
    typer.echo(f"vidssl {report['vidssl']}, Python {report['python']}, {report['platform']}")
    typer.echo("versions: " + ", ".join(f"{name} {version}" for name, version in report["packages"].items()))
    devices = report["devices"]
    typer.echo(f"devices: {devices['cores']} cores, {', '.join(devices['cuda']) or 'no GPU'}")
    typer.echo("decoders:")
    for name, state in report["decoders"].items():
        typer.echo(f"  {name:12} {state}")
    typer.echo(f"  auto tries {', then '.join(report['decoder_order'])}")
    typer.echo("parts:")
    for name, state in report["parts"].items():
        typer.echo(f"  {name:22} {state} ({PARTS[name]})")
    typer.echo(f"recipes in {report['config_folder']}: {', '.join(report['configs']) or 'none'}")


def diagnose_encoders() -> dict[str, Any]:
    """Every encoder that can be named, by family, as plain data."""
    with progress_bar("encoders", "model") as progress:
        found = families(progress)
    return {"encoders": [family._asdict() for family in found]}


def show_encoders(report: Mapping[str, Any]) -> None:
    """Print them for a person."""
    for family in report["encoders"]:
        installed = family["installed"] or "not installed"
        typer.echo(f"{family['name']} ({family['package']} {installed}): {len(family['names'])} models")
        typer.echo(f"  temporal: {', '.join(family['modes']) or 'ignored, the network has its own way'}")
        typer.echo(f"  names: {', '.join(family['names'])}")


def measure(videos: Path | None = None) -> dict[str, Any]:
    """Measure the decoders, and remember for `auto` which is the fastest.

    Args:
        videos: a folder or list, of which some files are taken; None for a rendered one.

    Raises:
        VidsslError: no video there that all decoders read, or the user's cache folder cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        if videos is None:
            files = [write_video(Path(folder) / "clip.mp4", _moving_texture(), 25)]
        else:
            index = VideoIndex.read(videos)
            places = np.linspace(0, len(index) - 1, min(len(index), SAMPLE)).round().astype(int)
            files = [index.path(i) for i in places.tolist()]
        milliseconds = measure_decoders(files)
    kept = remember(milliseconds)
    return {"milliseconds": milliseconds, "order": list(decoder_order()), "kept": str(kept)}


def show_measured(report: Mapping[str, Any]) -> None:
    """Print what `measure` found."""
    typer.echo("a clip of 16 frames, every fourth, CPU time:")
    for name, value in sorted(report["milliseconds"].items(), key=lambda item: item[1]):
        typer.echo(f"  {name:12} {value:8.1f} ms")
    typer.echo(f"auto tries {', then '.join(report['order'])} from now on ({report['kept']})")


def _moving_texture() -> Iterator[NDArray[np.uint8]]:
    """Smooth noise that moves, 340 by 256 pixels: about as hard to decode as a film."""
    noise = np.random.default_rng(0).normal(size=(256, 340 + 240, 3))
    for axis in (0, 1):
        noise = np.mean([np.roll(noise, shift, axis) for shift in range(-4, 5)], axis=0)
    texture = (128 + 40 * noise / noise.std()).clip(0, 255).astype(np.uint8)
    for t in range(120):
        yield texture[:, 2 * t : 2 * t + 340]


def _decoder(name: str) -> str:
    """Decode a clip made on the spot; 'works' or the reason why not."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "clip.mp4"
            write_video(file, np.zeros((4, 32, 32, 3), dtype=np.uint8), 8)
            with open_video(file, backend=name) as reader:
                reader.frames([0, 3])
    except (VidsslError, ImportError, OSError, RuntimeError) as error:
        return f"does not work: {' '.join(str(error).split())[:200]}"
    return "works"


def _imports(name: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other packages, about themselves
            importlib.import_module(name)
    except ImportError as error:
        return f"not available: {error}"
    except (OSError, RuntimeError, AttributeError) as error:
        return f"does not load: {' '.join(str(error).split())[:200]}"
    return "works"
