"""Tensors written one by one come back as safetensors reads them."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from vidssl.evaluation.features.stream import TensorStream


def test_tensors_come_back(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        str(number): torch.randn(shape, generator=generator).to(dtype)
        for number, (shape, dtype) in enumerate(
            [
                ((3, 2, 1, 5), torch.float32),
                ((7,), torch.float16),
                ((2, 3), torch.float32),
                ((1, 1), torch.float16),
            ]
        )
    }
    tensors["10000000"] = torch.randn(4, 3, 2, generator=generator).transpose(0, 2)  # not contiguous
    file = tmp_path / "a.safetensors"
    with file.open("wb") as opened:
        stream = TensorStream(opened, 9)
        for name, tensor in tensors.items():
            stream.add(name, tensor)
        stream.finish()
    assert stream.size == sum(tensor.nbytes for tensor in tensors.values())
    read = load_file(file)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)
    with safe_open(file, "pt") as opened_again:
        assert torch.equal(opened_again.get_slice("0")[1:], tensors["0"][1:])


def test_no_tensors_are_a_file_too(tmp_path: Path) -> None:
    with (tmp_path / "a.safetensors").open("wb") as opened:
        TensorStream(opened, 3).finish()
    assert load_file(tmp_path / "a.safetensors") == {}


def test_room_is_enough_for_the_largest_header(tmp_path: Path) -> None:
    """2**63 bytes, millions of videos."""
    with (tmp_path / "a.safetensors").open("wb") as opened:
        stream = TensorStream(opened, 1)
        stream.size = 2**62
        stream._header["9" * 9] = {
            "dtype": "F32",
            "shape": [99999, 99999, 99999, 99999],
            "data_offsets": [2**62, 2**62],
        }
        stream.finish()
