"""Attention along time by itself; inside an encoder it is tested with the CLIP tower."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vidssl.models.temporal import divided
from vidssl.models.temporal.divided import TemporalAttention


def random_clips(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_many_sequences_are_attended_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = TemporalAttention(8, 2)
    torch.nn.init.normal_(layer.fc.weight)
    x = random_clips(3, 4, 5, 8)
    whole = layer(x)
    monkeypatch.setattr(divided, "MAX_SEQUENCES", 7)
    torch.testing.assert_close(layer(x), whole, atol=1e-6, rtol=0)
