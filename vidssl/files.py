"""JSON records that are written whole or not at all, and the versions that go into each of them."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import vidssl
from vidssl.errors import VidsslError

PACKAGES = (
    "torch", "torchvision", "accelerate", "open_clip_torch", "transformers", "pytorchvideo", "decord", "decord2",
    "av", "einops", "numpy", "safetensors",
)  # fmt: skip


def write_json(file: Path, data: Mapping[str, Any]) -> None:
    """Written under a temporary name, flushed, renamed."""
    temporary = file.with_name(f".{file.name}.partial")
    with temporary.open("w", encoding="utf-8") as stream:
        json.dump(data, stream, indent=2)
        stream.write("\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(file)


def read_json(file: Path) -> dict[str, Any]:
    """A JSON object."""
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VidsslError(f"{file}: cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise VidsslError(f"{file}: expected a JSON object, found {type(data).__name__}")
    return data


def environment() -> dict[str, Any]:
    """Versions, platform and source revision, as they go into every run and result file."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "vidssl": vidssl.__version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
    }


def _git_commit() -> str | None:
    """The commit of a source checkout (with ``-dirty`` when it has changes), None for an installed package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
