"""What tests of loading look at: the tiny model's tensors, an encoder that carries them, an error of one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.models.encoder import VideoEncoder


def tensors_of(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "open_clip_model.safetensors")


def assert_carries(encoder: VideoEncoder, folder: Path) -> None:
    tensors = tensors_of(folder)
    assert torch.equal(encoder.state_dict()["visual.proj"], tensors["visual.proj"])
    assert encoder.text is not None
    assert torch.equal(encoder.text.state_dict()["text_projection"], tensors["text_projection"])


def one_line(error: pytest.ExceptionInfo[VidsslError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return message
