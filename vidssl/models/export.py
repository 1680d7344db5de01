"""Encoders on disk: a folder with `config.json`, `model.safetensors`, `text.safetensors` and nothing executable.

`read_encoder` reads such a folder; :func:`vidssl.load` also finds it in a checkpoint or a run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.files import whole_folder, write_json, write_tensors
from vidssl.models.encoder import VideoEncoder
from vidssl.models.factory import build_from_spec
from vidssl.models.stored import (
    CONFIG,
    FORMAT,
    MODEL,
    TEXT,
    TOKENIZER,
    VERSION,
    is_exported,
    own_tensors,
    read_config,
    text_folder,
)
from vidssl.models.towers.text import TextEncoder
from vidssl.models.weights import load_strict, read_tensors
from vidssl.version import __version__


def save_encoder(
    encoder: VideoEncoder,
    folder: str | Path,
    text: bool = True,
    weights: Mapping[str, Tensor] | None = None,
    text_in: str | None = None,
    rest: Mapping[str, str] | None = None,
) -> Path:
    """Export an encoder. The folder appears complete or not at all; an encoder already there is replaced.

    Args:
        encoder: what to write.
        folder: where; parents are created.
        text: whether to write the text tower (if there is one) too.
        weights: the state of the encoder, where its own is in parts, or what of it is to be written; None: its own.
        text_in: an exported encoder, as it is found from `folder`, with the very same text tower: it is named, and not written.
        rest: the exported encoder, as it is found from `folder`, in which all other weights are (``folder``), and the digest of its
            weights' file (``sha256``), see `own_tensors`.

    Raises:
        VidsslError: when `folder` exists and holds something else than an exported encoder.
    """
    folder = Path(folder)
    if folder.exists() and not (folder.is_dir() and (is_exported(folder) or not any(folder.iterdir()))):
        raise VidsslError(f"{folder}: exists and is no exported encoder; it will not be overwritten")
    tower = encoder.text if text and isinstance(encoder.text, TextEncoder) else None
    config: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "vidssl": __version__,
        "spec": encoder.spec,
        "text": None,
        **({} if rest is None else {"rest": dict(rest)}),
    }
    with whole_folder(folder) as partial:
        if tower is not None:
            config["text"] = {
                "logit_scale": tower.logit_scale,
                "logit_bias": tower.logit_bias,
                "fingerprint": tower.fingerprint,
                "tokenizer": tower.tokenizer_spec,
            }
            if text_in is not None:
                config["text"]["folder"] = text_in
            else:
                write_tensors(partial / TEXT, tower.state_dict())
                if tower.tokenizer_spec["kind"] == "transformers":
                    tower.tokenizer.save_pretrained(partial / TOKENIZER)
        write_json(partial / CONFIG, config)
        write_tensors(partial / MODEL, encoder.state_dict() if weights is None else weights)
    return folder


def read_encoder(folder: str | Path) -> VideoEncoder:
    """Read an exported encoder, in evaluation mode, on the CPU. The default random generator is left alone.

    Raises:
        VidsslError: when it is no exported encoder, a file is missing or damaged, or keys or shapes differ.
    """
    folder = Path(folder)
    config = read_config(folder)
    with_text = folder if config["text"] is None else text_folder(folder, config)
    with torch.random.fork_rng(devices=[]):
        tokenizer = with_text / TOKENIZER
        encoder = build_from_spec(
            config["spec"],
            text=config["text"] is not None,
            tokenizer_folder=tokenizer if tokenizer.is_dir() else None,
        )
    load_strict(encoder, own_tensors(folder), str(folder / MODEL))
    if isinstance(encoder.text, TextEncoder):
        load_strict(encoder.text.tower, read_tensors(with_text / TEXT), str(with_text / TEXT))
        bias = config["text"]["logit_bias"]
        encoder.text.logit_scale = float(config["text"]["logit_scale"])
        encoder.text.logit_bias = None if bias is None else float(bias)
    return encoder.eval()
