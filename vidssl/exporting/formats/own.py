"""`vidssl`: the folder that `vidssl.load_encoder` reads, with the text tower."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from vidssl.exporting.formats.form import Features, Format, Loaded
from vidssl.models.encoder import VideoEncoder
from vidssl.models.export import read_encoder, save_encoder


def _write(encoder: VideoEncoder, folder: Path, clips: Tensor) -> dict[str, Any]:
    save_encoder(encoder, folder)
    return {}


def _read(folder: Path) -> Loaded:
    encoder = read_encoder(folder)

    def encode(clips: Tensor) -> Features:
        features = encoder(clips)
        return features.clip, features.frames

    return Loaded(encode, None if encoder.text is None else encoder.text.encode)


OWN = Format(
    require=lambda encoder: None,
    write=_write,
    read=_read,
    library="vidssl",
    usage="""\
import torch, vidssl
encoder = vidssl.load_encoder({place})
mean, std = (torch.tensor(x).view(3, 1, 1, 1) for x in (encoder.mean, encoder.std))
features = encoder((clips - mean) / std)  # clips (B, 3, T, H, W), RGB in [0, 1]; .clip (B, D), .frames (B, T, D)""",
)
