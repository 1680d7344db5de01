"""Under which conditions a run computes: its recipe, its videos, versions, device and number of processes.

They are recorded when a run begins. Only under the same ones does it go on to the same weights.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from vidssl import distributed
from vidssl.config import Config, load_config
from vidssl.data.decode.choice import decoder_order
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.files import read_json
from vidssl.runs import CONFIG
from vidssl.training.sources.videos import TrainingVideos

ENVIRONMENT = "environment.json"  # in a run folder
# What of a recipe may change without changing what is computed. The videos are known by their digest, wherever they lie.
FREE = frozenset(
    ("output", "data.train", "data.features", "data.missing", "data.workers", "data.check", "data.allow_empty_classes", "data.cache.folder",
     "data.cache.gigabytes", "train.log_every", "train.checkpoint_every", "train.keep_checkpoints", "train.trackers",
     "train.step_deadline", "train.threads")
)  # fmt: skip


class Change(NamedTuple):
    """A condition of a run that is not what it was."""

    what: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.what} {short(self.before)} → {short(self.now)}"


def conditions(videos: TrainingVideos, device: torch.device, decoder: str) -> dict[str, Any]:
    """Those beside the recipe: versions, processes, device, videos, and how many each of several sets has. On a CPU the
    number of threads is one of them, and where `decoder` is auto their order: pixels may differ by a level or two.
    """
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    record = {**environment(), "processes": distributed.world_size(), "device": hardware}
    if device.type == "cpu":
        record["threads"] = torch.get_num_threads()
    if decoder == "auto" and videos.features is None:
        record["decoders"] = list(decoder_order())
    data = {"videos": len(videos.index), "digest": videos.digest()}
    sets = {"sets": list(videos.mixture.sizes)} if len(videos.mixture.sizes) > 1 else {}
    return {**record, "data": data | sets}


def recorded_threads(folder: Path) -> int | None:
    """The CPU threads that the run in `folder` was begun with; None where there is no run, or none on a CPU."""
    try:
        threads = read_json(folder / ENVIRONMENT).get("threads")
    except VidsslError:
        return None
    return threads if isinstance(threads, int) and threads > 0 else None


def _is_free(key: str) -> bool:
    return key in FREE or re.fullmatch(r"data\.train\.\d+\.path", key) is not None


def changes(folder: Path, config: Config, now: Mapping[str, Any]) -> list[Change]:
    """How a recipe and conditions differ from those that the run in `folder` records. What it does not record is equal.

    Raises:
        VidsslError: when its records cannot be read.
    """
    old, new = (flat(recipe.model_dump(mode="json")) for recipe in (load_config(folder / CONFIG), config))
    pairs = {key: (old.get(key), new.get(key)) for key in (*old, *new) if not _is_free(key)}
    if (folder / ENVIRONMENT).is_file():
        before, after = (_comparable(record) for record in (read_json(folder / ENVIRONMENT), now))
        pairs |= {
            key: (before.get(key), after.get(key))
            for key in (*before, *after)
            if key.startswith("packages.") or (key in before and key in after)
        }
    return [Change(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1]]


def require_same(folder: Path, config: Config, now: Mapping[str, Any], accept: bool) -> list[Change]:
    """The accepted changes.

    Raises:
        VidsslError: listing them, unless `accept`.
    """
    found = changes(folder, config, now)
    if found and not accept:
        raise VidsslError(
            f"output: {folder}: the run was begun under other conditions: {', '.join(map(str, found))}; restore them, "
            "or go on with --accept-changes, which is recorded in the run folder"
        )
    return found


def _comparable(record: Mapping[str, Any]) -> dict[str, Any]:
    """What must be equal of a record of conditions; platform and Python are only for the record."""
    kept = ("vidssl", "git_commit", "packages", "processes", "device", "threads", "decoders", "data", "flips")
    return flat({key: record[key] for key in kept if record.get(key) is not None})


def flat(value: Any, prefix: str = "") -> dict[str, Any]:
    """Nested sections -> dotted keys; places in a list of sections are keys too."""
    if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        value = {str(place): item for place, item in enumerate(value)}
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    rows: dict[str, Any] = {}
    for key, item in value.items():
        rows |= flat(item, f"{prefix}.{key}" if prefix else str(key))
    return rows


def short(value: Any) -> str:
    """A value in the few words that a list of differences has room for."""
    text = "none" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:20]}…{text[-20:]}"
