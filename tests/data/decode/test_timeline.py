from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from vidssl.data.decode import timeline


@pytest.mark.parametrize(
    ("codec", "data", "hidden"),
    [
        ("vp8", [0b000_1_000_0, 0], False),  # first_part_size, show_frame, version, key frame (RFC 6386, 9.1)
        ("vp8", [0b000_0_000_1, 0], True),
        (
            "vp9",
            [0b10_00_0_0_1_0, 0],
            False,
        ),  # marker, profile, show_existing, frame_type, show_frame, resilience
        ("vp9", [0b10_00_0_1_0_0, 0], True),
        ("vp9", [0b10_00_1_000, 0], False),
        ("vp9", [0b10_01_0_1_0_0, 0], True),
        ("vp9", [0b10_11_0_0_1_0, 0], True),  # profile 3 has one bit more
        ("vp9", [0b10_11_0_0_0_1, 0], False),
        ("vp9", [0b10_00_0_1_0_0, 0b110_00_001], False),  # a superframe shows its last frame
    ],
)
def test_hidden_frames_are_told_by_their_header(codec: str, data: list[int], hidden: bool) -> None:
    stream: Any = SimpleNamespace(codec_context=SimpleNamespace(name=codec))
    packet: Any = bytes(data)
    assert timeline._is_hidden(packet, stream) is hidden
