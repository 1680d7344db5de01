"""The run folder: claimed before anything is loaded, begun when everything has been found to fit.

Until it is begun nothing in it changes, so that a refused command leaves a run as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from torch import Tensor

from vidssl.config import Config
from vidssl.data.manifest.quarantine import FailedVideo, Quarantine
from vidssl.errors import VidsslError
from vidssl.files import (
    CHECKPOINTS,
    LATEST,
    checkpoints_of,
    clear_left_overs,
    damage,
    point_at_checkpoint,
    read_json,
    write_json,
    write_text,
)
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.runs import CONFIG, INITIAL
from vidssl.training.conditions import ENVIRONMENT, Change
from vidssl.training.lock import LOCK, FolderLock

QUARANTINE, CHANGES = "quarantine.csv", "changes.json"


class Claim(NamedTuple):
    """What was found in a run folder.

    Attributes:
        begun: whether there is a run.
        checkpoint: to resume it from; None where it was stopped before its first.
        notes: what is to be said of it.
    """

    begun: bool
    checkpoint: Path | None = None
    notes: tuple[str, ...] = ()


def claim_folder(folder: Path, resume: bool, lock: FolderLock) -> Claim:
    """Look what there is, and hold the lock of a run that is to be resumed. Changes nothing.

    Raises:
        VidsslError: when the folder already holds a run and `resume` is False, another run is writing to it, it holds
            something else, is a file, or all checkpoints that there were are lost or damaged.
    """
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"output: {folder}: is a file; a folder is needed")
    found = (
        {path.name for path in folder.iterdir() if not path.name.startswith(".")}
        if folder.is_dir()
        else set()
    )
    if CONFIG not in found and found <= {
        LOCK,
        ENVIRONMENT,
        INITIAL,
        QUARANTINE,
    }:  # of one killed while it began
        return Claim(begun=False)
    if not resume:
        raise VidsslError(
            f"output: {folder}: is not empty; continue it with --resume or choose another folder"
        )
    if CONFIG not in found:
        raise VidsslError(
            f"output: {folder}: holds no run that could be resumed (no {CONFIG}); choose another folder"
        )
    lock.take()
    return Claim(True, *_whole_checkpoint(folder))


def begin_folder(
    config: Config,
    conditions: Mapping[str, Any],
    bad: Sequence[FailedVideo],
    encoder: VideoEncoder,
    weights: Mapping[str, Tensor],
    lock: FolderLock,
) -> None:
    """Begin a run: the conditions, the unreadable videos, the untrained encoder, which is kept because every trained
    number is reported beside its, and at last the resolved recipe, which makes the folder a run.

    Raises:
        VidsslError: when another run began there in the meantime, or the folder cannot be written to.
    """
    folder = Path(config.output)
    lock.take(create=True)
    if (folder / CONFIG).is_file():
        raise VidsslError(f"output: {folder}: another run began there in the meantime; choose another folder")
    _clear(folder)
    write_json(folder / ENVIRONMENT, conditions)
    (folder / QUARANTINE).unlink(missing_ok=True)  # of a run that was killed while it began
    quarantine = Quarantine(folder / QUARANTINE)
    quarantine.leave_out(bad)
    quarantine.save()
    save_encoder(encoder, folder / INITIAL, weights=weights)
    _write_recipe(config)


def go_on_in_folder(
    config: Config,
    conditions: Mapping[str, Any],
    checkpoint: Path | None,
    step: int,
    accepted: Sequence[Change],
) -> None:
    """Go on with a run from one of its checkpoints: accepted changes are recorded, conditions and recipe are now these."""
    folder = Path(config.output)
    _clear(folder)
    if accepted:
        file = folder / CHANGES
        earlier = read_json(file).get("accepted", []) if file.is_file() else []
        rows = [change._asdict() for change in accepted]
        now = {"step": step, "time": datetime.now(UTC).isoformat(timespec="seconds"), "changes": rows}
        write_json(file, {"accepted": [*earlier, now]})
    write_json(folder / ENVIRONMENT, conditions)
    _write_recipe(config)
    if checkpoint is not None:
        point_at_checkpoint(folder, checkpoint)


def _whole_checkpoint(folder: Path) -> tuple[Path | None, tuple[str, ...]]:
    """The newest whole checkpoint, and what is to be said of newer ones and of the pointer."""
    found, notes = checkpoints_of(folder), []
    pointer = folder / LATEST
    for checkpoint in found:
        if (reason := damage(checkpoint)) is not None:
            notes.append(f"{checkpoint}: damaged: {reason}; not used")
            continue
        if notes or not pointer.is_file():
            lost = "" if pointer.is_file() else f"{LATEST} is lost; "
            notes.append(f"{folder}: {lost}going on from {checkpoint.name}, the newest whole checkpoint")
        return checkpoint, tuple(notes)
    if found or pointer.is_file():
        what = (
            notes[0]
            if notes
            else f"{folder}: {LATEST} names a checkpoint, but {CHECKPOINTS}/ holds none any more"
        )
        raise VidsslError(
            f"{what}; no whole checkpoint is left to resume from: bring one back, or begin anew in another folder"
        )
    return None, (f"{folder}: was stopped before its first checkpoint; beginning again at step 0",)


def _clear(folder: Path) -> None:
    for place in (folder, folder / CHECKPOINTS):
        if place.is_dir():
            clear_left_overs(place)


def _write_recipe(config: Config) -> None:
    recipe = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    write_text(Path(config.output) / CONFIG, recipe)
