"""Versions, platform and source revision: what goes into the record of every run and result."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from vidssl.version import __version__

PACKAGES = (
    "torch", "torchvision", "accelerate", "open_clip_torch", "transformers", "pytorchvideo", "decord", "decord2",
    "av", "einops", "numpy", "safetensors",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Versions, platform and source revision, as they go into every run and result file."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "vidssl": __version__,
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
