"""An encoder of ours on the disk: the layout of its folder, and where a run or a checkpoint keeps it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.files import CHECKPOINTS, CHECKSUMS, newest_checkpoint, read_json, require_whole, sha256
from vidssl.models.weights import read_tensors
from vidssl.version import __version__

FORMAT = "vidssl-encoder"
VERSION = 1
CONFIG, MODEL, TEXT, TOKENIZER = "config.json", "model.safetensors", "text.safetensors", "tokenizer"
KINDS = "an exported encoder (config.json), a checkpoint (encoder/) or a run (checkpoints/)"


def find_encoder(path: str | Path) -> Path:
    """The exported folder that a path stands for: it, the one in a checkpoint, or in the newest checkpoint of a run.

    Raises:
        VidsslError: when it is none of these, or the encoder of a checkpoint is not as it was written.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        found = "not a folder" if folder.exists() else "no such folder"
        raise VidsslError(f"{path}: {found}; expected {KINDS}")
    folder = newest_checkpoint(folder) or folder
    for candidate in (folder, folder / "encoder"):
        if (candidate / CONFIG).is_file():
            _check_checkpoint(candidate)
            return candidate
    raise VidsslError(f"{path}: holds no encoder; expected {KINDS}")


def _check_checkpoint(encoder: Path) -> None:
    """Where an encoder folder is that of a run's checkpoint, insist that it is as it was written."""
    checkpoint = encoder.resolve().parent
    if checkpoint.parent.name == CHECKPOINTS or (checkpoint / CHECKSUMS).is_file():
        require_whole(checkpoint, below=f"{encoder.name}/")


def is_exported(folder: Path) -> bool:
    """Whether a folder is an exported encoder, of whatever version."""
    try:
        return bool(read_json(folder / CONFIG).get("format") == FORMAT)
    except VidsslError:
        return False


def read_config(folder: Path) -> dict[str, Any]:
    """`config.json` of an exported encoder.

    Raises:
        VidsslError: when it is damaged, of something else, or of another version.
    """
    file = folder / CONFIG
    config = read_json(file)
    if config.get("format") != FORMAT or "spec" not in config or "text" not in config:
        raise VidsslError(f"{file}: not the config of an exported encoder (format {config.get('format')!r})")
    if config.get("version") != VERSION:
        raise VidsslError(
            f"{file}: version {config.get('version')!r} of the format; vidssl {__version__} reads {VERSION}"
        )
    return config


def text_folder(folder: Path, config: dict[str, Any]) -> Path:
    """Where the text tower of an exported encoder lies: in its folder, or, in a checkpoint of a run, in another of the run, where
    it was written once.

    Raises:
        VidsslError: when it is not there, or another one is.
    """
    text: dict[str, Any] = config["text"]
    if "folder" not in text:
        return folder
    place = (folder.resolve() / str(text["folder"])).resolve()
    if not (place / TEXT).is_file():
        raise VidsslError(
            f"{folder}: its text tower was written once for the run, to {place}, which is not there; take an encoder out of its run "
            "with `vidssl export`"
        )
    if (read_config(place)["text"] or {}).get("fingerprint") != text["fingerprint"]:
        raise VidsslError(f"{place}: holds another text tower than the one that {folder} was trained with")
    return place


def own_tensors(folder: Path) -> dict[str, Tensor]:
    """The weights of an exported encoder without its text tower; in a checkpoint of a run those that nothing changes come from the
    run's untrained encoder, where they were written once.

    Raises:
        VidsslError: when a file is missing or damaged, or the untrained encoder is another one.
    """
    tensors, rest = read_tensors(folder / MODEL), read_config(folder).get("rest")
    if rest is None:
        return tensors
    file = (folder.resolve() / str(rest["folder"])).resolve() / MODEL
    if not file.is_file():
        raise VidsslError(
            f"{folder}: what of its weights nothing changes was written once for the run, to {file}, which is not there; take an "
            "encoder out of its run with `vidssl export`"
        )
    if sha256(file) != rest["sha256"]:
        raise VidsslError(
            f"{file}: holds other weights than those that {folder} was trained beside, or is damaged"
        )
    return read_tensors(file) | tensors


def stored_tensors(folder: Path) -> dict[str, Tensor]:
    """All weights of an exported encoder: its own names, the text tower's under ``text.``, `logit_scale`, `logit_bias`."""
    config = read_config(folder)
    text, tensors = config["text"], own_tensors(folder)
    if text is not None:
        file = text_folder(folder, config) / TEXT
        tensors |= {f"text.{key}": value for key, value in read_tensors(file).items()}
        scales = {key: text[key] for key in ("logit_scale", "logit_bias") if text[key] is not None}
        tensors |= {key: torch.tensor(value, dtype=torch.float64) for key, value in scales.items()}
    return tensors
