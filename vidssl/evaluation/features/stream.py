"""A safetensors file that is written tensor by tensor: what does not fit into memory does fit onto the disk.

The header, which has to come first, gets room for all tensors and is filled in at the end; the format lets it end in spaces.
"""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import torch
from torch import Tensor

_DTYPES = {torch.float32: "F32", torch.float16: "F16"}
_ROOM = 192  # bytes of header for one tensor


class TensorStream:
    """Tensors into an open file, one after the other.

    Args:
        file: empty, to write to.
        count: how many tensors there can be at most.

    Attributes:
        size: bytes of tensors so far.
    """

    def __init__(self, file: BinaryIO, count: int) -> None:
        self._file, self._room, self.size = file, _ROOM * (count + 1), 0
        self._header: dict[str, Any] = {}
        file.seek(8 + self._room)

    def add(self, name: str, tensor: Tensor) -> None:
        """Append a float32 or float16 tensor; names are short and appear once."""
        values = tensor.detach().to("cpu").contiguous().numpy()
        offsets = [self.size, self.size + values.nbytes]
        self._header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(values.shape),
            "data_offsets": offsets,
        }
        self._file.write(values.astype(values.dtype.newbyteorder("<"), copy=False).data)
        self.size = offsets[1]

    def finish(self) -> None:
        """Write the header."""
        header = json.dumps(self._header, separators=(",", ":")).encode()
        assert len(header) <= self._room, "short names, as many tensors as were announced"
        self._file.seek(0)
        self._file.write(self._room.to_bytes(8, "little") + header.ljust(self._room))
