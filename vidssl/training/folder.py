"""The run folder: claimed before anything is loaded, begun when everything has been found to fit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from vidssl import distributed
from vidssl.config import Config
from vidssl.data.manifest.quarantine import FailedVideo, write_quarantine
from vidssl.environment import environment
from vidssl.errors import VidsslError
from vidssl.files import newest_checkpoint, write_json, write_text
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import save_encoder
from vidssl.runs import CONFIG, INITIAL

QUARANTINE = "quarantine.csv"


def claim_folder(folder: Path, resume: bool) -> Path | None:
    """The checkpoint to resume from; None for a run that begins.

    Raises:
        VidsslError: when the folder already holds a run and `resume` is False, or is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise VidsslError(f"output: {folder}: is a file; a folder is needed")
    if not folder.is_dir() or not any(folder.iterdir()):
        return None
    if not resume:
        raise VidsslError(
            f"output: {folder}: is not empty; continue it with --resume or choose another folder"
        )
    return newest_checkpoint(folder)


def begin_folder(
    config: Config, bad: Sequence[FailedVideo], encoder: VideoEncoder, device: torch.device
) -> None:
    """Make the run folder: the resolved recipe, versions and device, the unreadable videos, and the untrained encoder,
    which is kept because every trained number is reported beside its. Harmless when the run is resumed."""
    folder = Path(config.output)
    write_text(folder / CONFIG, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
    hardware = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    record = {**environment(), "processes": distributed.world_size(), "device": hardware}
    write_json(folder / "environment.json", record)
    if not (folder / INITIAL).is_dir():
        if bad:
            write_quarantine(folder / QUARANTINE, bad)
        save_encoder(encoder, folder / INITIAL)
