"""Text towers that are models of transformers (RoBERTa, XLM-R, mT5, NLLB): built from a config alone, weights come with the CLIP model.

The config is kept in the encoder's description, so that what was saved is read back without a hub.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vidssl.errors import VidsslError
from vidssl.files import read_json, write_json
from vidssl.models.sources import hub_file

CONFIG = "config.json"
# What says how a model is kept or fetched, not what it computes.
_STORAGE = ("torch_dtype", "dtype", "_name_or_path")


def read_text_config(name: str, folder: Path | None) -> dict[str, Any]:
    """The config of a text model of transformers.

    Args:
        name: the `hf_model_name` of an open_clip config: a name of the hub, or a folder.
        folder: of a local CLIP model: its subfolders of that name and ``text_model`` are looked into first.

    Raises:
        VidsslError: when it is not there, or asks for code of its own.
    """
    inside = [] if folder is None else [folder / name, folder / "text_model"]
    local = [place / CONFIG for place in (*inside, Path(name).expanduser()) if (place / CONFIG).is_file()]
    try:
        file = local[0] if local else hub_file(name, CONFIG)
    except VidsslError as error:
        raise VidsslError(
            f"text tower {name!r}: {error}; its config.json can stand in the folder text_model of a local model; "
            "load_text=False does without the text tower"
        ) from None
    config = read_json(file)
    if config.get("auto_map"):
        raise VidsslError(f"{file}: wants code of the repository to be run, which is refused")
    return {key: value for key, value in config.items() if key not in _STORAGE}


def build_text_model(config: Mapping[str, Any], text_cfg: Mapping[str, Any], embed_dim: int) -> nn.Module:
    """open_clip's `HFTextEncoder` with random weights.

    Raises:
        VidsslError: for a config that transformers or open_clip cannot make a text tower of.
    """
    from open_clip.hf_model import HFTextEncoder

    with tempfile.TemporaryDirectory() as folder:  # open_clip reads it from one
        write_json(Path(folder) / CONFIG, dict(config))
        try:
            tower: nn.Module = HFTextEncoder(
                folder,
                output_dim=embed_dim,
                proj_type=text_cfg.get("hf_proj_type", "mlp"),
                pooler_type=text_cfg.get("hf_pooler_type", "mean_pooler"),
                pretrained=False,
            )
        except (KeyError, OSError, TypeError, ValueError, RuntimeError) as error:
            kind = config.get("model_type")
            raise VidsslError(
                f"text tower of the kind {kind!r}: cannot be built ({' '.join(str(error).split())[:160]})"
            ) from None
    return tower.to(torch.float32)
